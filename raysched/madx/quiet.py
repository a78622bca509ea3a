"""Silence around the libraries' expected reports."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

# At each forward of a full run the library says that adapters are there and none is active: it is meant so.
logging.getLogger("adapters.model_mixin").setLevel(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries report expected things (weights of a masked-language head, adapters not yet active) as warnings."""
    loggers = [logging.getLogger(name) for name in ("adapters", "transformers")]
    levels = [logger.level for logger in loggers]
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
