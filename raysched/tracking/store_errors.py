"""What MLflow raises, as errors that a user can act on; never with a password in them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from raysched.errors import MissingError, RayschedError
from raysched.tracking.rows import mask

CREDENTIALS_HINT = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) in the environment, "
    "of a user who may write experiments there"
)
HINT = (
    "check --mlflow and that the server runs; a sweep starts without it by --allow-offline-tracking, and uploads later"
)

P = ParamSpec("P")
T = TypeVar("T")


class RunGone(MissingError):
    """The run is not there any more: somebody deleted it."""


def safe(call: Callable[P, T]) -> Callable[P, T]:
    """Turn whatever MLflow raises into MissingError or RunGone, with masked credentials."""

    @functools.wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except RayschedError:
            raise
        except Exception as error:  # MLflow lets errors of requests, urllib3, sqlalchemy and the disk through
            text = mask(str(error)).strip().splitlines() or [type(error).__name__]
            if (refused := _refused(error)) is not None:
                raise MissingError(refused, key="--mlflow", hint=CREDENTIALS_HINT) from None
            kind = RunGone if _gone(error) else MissingError
            raise kind(f"MLflow: {text[0][:300]}", key="--mlflow", hint=HINT) from None  # the cause may hold a password

    return inner


def _gone(error: Exception) -> bool:
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "active' state" in str(error))


def _refused(error: Exception) -> str | None:
    """What a server says that does not know us, or does not let us; its own words may repeat what was sent."""
    status = getattr(error, "get_http_status_code", lambda: None)()
    code = next((one for one in (401, 403) if status == one or f"error code {one} " in str(error)), None)
    if code is None:
        return None
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if code == 403:
        return "MLflow: the server does not let this user do it (403)"
    return f"MLflow: the server refuses {'the password of ' + repr(user) if user else 'whoever has no password'} (401)"


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Pass over what MLflow raises for something that is not there."""
    try:
        yield
    except Exception as error:
        code: Any = getattr(error, "error_code", "")
        if code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
