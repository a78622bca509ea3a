"""A point's schedule on a given backbone. No torch: preflight refuses here what would fail in every run."""

from __future__ import annotations

import json
from pathlib import Path

from raysched.errors import MissingError, StudyError
from raysched.study.identity import Resolved
from raysched.study.model import Study
from raysched.study.space import Point
from raysched.study.values import K
from raysched.unfreezing.config import Replay, ScheduleConfig, replay_from_json

EARLY = 10
"""`early` ends unfreezing within one so-manieth of a run's steps."""


def interval(k: K | None, n_layers: int, total: int) -> int | None:
    """`k` in whole steps, at least 1, for N total steps and L layers.

    `even` (k = N/L) spreads the events over the whole run: the last layers to wake hardly learn. `early` is a tenth of
    that, so kL = N/10 << N as the paper asks for: after a tenth of the run everything is awake.
    """
    if not isinstance(k, str):
        return k
    return max(1, total // (n_layers * (EARLY if k == "early" else 1)))


def schedule_config(
    study: Study, resolved: Resolved, point: Point, n_layers: int, seed: int, total: int
) -> ScheduleConfig:
    """The schedule of `point` for `n_layers` layers and `total` steps; `seed` is that of the run's schedule stream.

    Raises:
        StudyError: an order, given, published or recorded, is of another number of layers, or surgical layers are
            none of the backbone's.
        MissingError: the recorded order is not there.
    """
    return ScheduleConfig(
        name=point.schedule,
        n_layers=n_layers,
        k=interval(point.k, n_layers, total),
        seed=seed,
        gu_phase=study.training.gu_phase,
        permutation=study.training.permutation if point.schedule == "permutation" else None,
        surgical=study.training.surgical if point.schedule == "surgical" else None,
        replay=_recorded(study, resolved) if point.schedule == "replay" else None,
    )


def _recorded(study: Study, resolved: Resolved) -> Replay:
    where = resolved.replay
    path = Path(where.path if where and where.path else str(study.training.replay))
    try:
        return replay_from_json(json.loads(path.read_text())["order"])
    except OSError as error:
        raise MissingError(f"cannot read {path}: {error.strerror}", key="training.replay") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{path} is not an unfreeze_order.json",
            key="training.replay",
            hint="take the artifact unfreeze_order.json of a finished run",
        ) from error
