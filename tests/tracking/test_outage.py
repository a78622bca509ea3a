"""An outage has an end: nothing is launched for ever into a store that takes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raysched.errors import RESUMABLE, DamageError, MissingError
from raysched.runners.outage import LIMIT_BYTES, LIMIT_S, Outage
from raysched.tracking.mlflow_store import Store
from raysched.tracking.uploader import Uploader, UploadState


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("behind_s", "n_bytes", "held"),
    [
        (None, 0, False),
        (None, 10 * LIMIT_BYTES, False),  # it waits for a slow store, not for one that is away
        (LIMIT_S, LIMIT_BYTES, False),
        (LIMIT_S + 1, 0, True),
        (0.0, LIMIT_BYTES + 1, True),
    ],
)
def test_a_sweep_is_held_beyond_an_hour_or_a_hundred_megabytes(
    behind_s: float | None, n_bytes: int, held: bool
) -> None:
    clock = Clock()
    since = None if behind_s is None else clock.now - behind_s
    state = UploadState(
        backlog=3, backlog_bytes=n_bytes, behind_since=since, last_error="no answer", last_success_ms=None
    )
    hold = Outage(lambda: state, name="demo", uri="http://me:canary@host:5000", clock=clock)
    answer = hold()
    assert (answer is not None) is held
    if answer is not None:
        assert (answer.leave, answer.now) == (True, False)
        assert answer.why.exit_code == RESUMABLE
        assert "canary" not in str(answer.why)
        for part in ("at http://***@host:5000", "raysched sync demo", "at most 1 h or 100.0 MB", "same command"):
            assert part in str(answer.why)


def test_the_uploader_says_how_far_and_how_long_it_is_behind(
    disk: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise MissingError("MLflow: gone")

    clock = Clock()
    uploader = Uploader(disk.layout, store, clock=clock)
    hold = Outage(uploader.state, name="demo", uri=store.uri, clock=clock, limit_bytes=10_000)
    disk.point()
    disk.whole_run(0)
    assert uploader.sync_once()
    assert (uploader.state().behind_since, uploader.state().backlog_bytes) == (None, 0)
    assert (uploader.state().runs_held, uploader.state().runs) == (1, 2)
    monkeypatch.setattr(Store, "log", away)
    attempt = disk.attempt(1)
    sealed = disk.checkpoint(attempt, 0, 2, before=[])
    assert not uploader.sync_once()
    first = uploader.state()
    size = sum(path.stat().st_size for path in attempt.segments.iterdir())
    assert (first.behind_since, first.backlog_bytes) == (1000.0, size)
    clock.now += LIMIT_S
    sealed = disk.checkpoint(attempt, 2, 3, before=sealed)
    assert not uploader.sync_once()
    assert uploader.state().behind_since == 1000.0
    assert uploader.state().backlog_bytes > size
    assert hold() is None
    clock.now += 1
    assert hold() is not None
    monkeypatch.undo()
    assert uploader.sync_once()
    assert uploader.state().behind_since is None
    assert hold() is None


@pytest.mark.parametrize("where", ["log", "find"])
def test_what_is_damaged_on_disk_is_no_outage(
    disk: Any, store: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    errors: dict[str, Callable[..., Any]] = {}

    def fail(*_: object, **__: object) -> None:
        raise errors[where]("made up")

    monkeypatch.setattr(Store, where, fail)
    disk.point()
    disk.whole_run(0)
    for error, away in ((DamageError, False), (MissingError, True)):
        errors[where] = error
        uploader = Uploader(disk.layout, store)
        assert not uploader.sync_once()
        assert (uploader.state().behind_since is not None) is away
