"""`retry` and `extend`: more work for a sweep that is there. Each may be said twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from raysched.cli.looking import find_all
from raysched.cli.terminal import terminal
from raysched.errors import DONE, StudyError
from raysched.runners.options import Options


def retry(name: str | None, options: Options, *, failed: bool, runs: list[str]) -> int:
    """Try failed runs of a sweep again (of a suite: of all its parts); the exit code is that of `sweep`.

    Raises:
        StudyError, MissingError: no such sweep, no such run, or a run that did not fail.
        RayschedError: as `raysched sweep`.
    """
    from raysched.cli import sweeping
    from raysched.service.growing import failed_runs

    if failed == bool(runs):
        raise StudyError(
            "say which runs: all that failed, or some by their ids" if not runs else "give one of the two",
            key="retry",
            choices=["--failed", "--run ID"],
        )
    layouts = find_all([name] if name else [], options.storage)
    if runs and len(layouts) > 1:
        raise StudyError(
            f"{name} is a suite: say whose runs these are", key="SWEEP", choices=[one.name for one in layouts]
        )
    codes = []
    for found in [failed_runs(layout, runs) for layout in layouts]:
        sweep = found.loaded.name
        if not found.run_ids and not found.begun:
            _say(f"{sweep}: no run failed; nothing to retry")
            continue
        _say(f"{sweep}: trying {_count(len(found.run_ids | found.begun), 'failed run')} again, with the same seeds")
        codes.append(
            sweeping.sweep(found.loaded, dataclasses.replace(options, retry=found.run_ids if found.run_ids else None))
        )
    return _worst(codes)


def extend(name: str | None, options: Options, *, seeds: str | None, points: int | None, overrides: list[str]) -> int:
    """Add seeds or points to a sweep (to all parts of a suite), and run what is new; the exit code is that of `sweep`.

    Raises:
        StudyError, MissingError: no such sweep, a malformed value, or a change that is no growth.
        RayschedError: as `raysched sweep`.
    """
    from raysched.cli import sweeping
    from raysched.service.growing import extension

    if seeds is None and points is None and not overrides:
        raise StudyError("say what is added", key="extend", choices=["--seeds", "--points", "--set KEY=VALUE"])
    layouts = find_all([name] if name else [], options.storage)
    grown = [extension(layout, seeds=seeds, points=points, overrides=overrides) for layout in layouts]
    codes = []
    for one in grown:
        if one.differences:
            _say("\n  ".join([f"{one.loaded.name}: {_count(one.n_new_runs, 'new run')}", *one.differences]))
        else:
            _say(f"{one.loaded.name}: has all of that already")
        codes.append(sweeping.sweep(one.loaded, dataclasses.replace(options, extend=bool(one.differences))))
    return _worst(codes)


def _worst(codes: Iterable[int]) -> int:
    from raysched.cli.sweeping import WORSE

    return max(codes, key=WORSE.index, default=DONE)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _say(text: str) -> None:
    terminal().print(text, highlight=False, markup=False)
