"""raysched: a distributed sweep service on Ray for adapter-based zero-shot cross-lingual transfer.

From Python: `raysched.sweep` runs a study, `raysched.load_sweep` and `raysched.load_sweeps` read what is stored, as
pandas frames and figures. See `raysched.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysched.api import Progress, load_sweep, load_sweeps, sweep
    from raysched.reports.results import Results, SweepResults

__version__ = "0.1.0"
__all__ = ["Progress", "Results", "SweepResults", "__version__", "load_sweep", "load_sweeps", "sweep"]


def __getattr__(name: str) -> Any:
    """What is imported when it is first used: the command line needs none of it."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from raysched import api

    globals().update({one: getattr(api, one) for one in __all__ if not one.startswith("_")})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
