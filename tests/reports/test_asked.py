"""What the sections of one report share."""

from __future__ import annotations

from collections.abc import Callable

from raysched.reports.asked import Asked
from raysched.reports.spread.equal import runs
from raysched.reports.sweep import read_sweep
from raysched.reports.traces.gathering import traced
from raysched.reports.traces.observed import features
from raysched.study.space import points
from tests.reports.conftest import MadeUp


def test_a_history_is_read_once_and_its_damage_told_once(made_up: Callable[..., MadeUp]) -> None:
    made = made_up()
    specs = made.take(0, points(made.study.search)[0])
    whole, damaged = (made.finish(spec) for spec in specs)
    folder = made.layout.run(damaged.run_id).root / damaged.attempt_folder / "segments"
    (folder / damaged.segments[0].name).write_bytes(b"nonsense")
    sweep = read_sweep(made.layout)
    asked = Asked(sweeps=(sweep,))
    first = asked.history(sweep, whole)
    for segment in (made.layout.run(whole.run_id).root / whole.attempt_folder / "segments").iterdir():
        segment.unlink()  # whoever looks again finds nothing
    assert first
    assert {row.kind for row in first} == {"fisher"}
    assert [list(one.logs) for one in traced(asked, sweep)] == [[whole.seed]]
    assert list(features(asked, sweep).hills) == [whole.run_id]
    assert runs(asked, sweep) == []  # nothing was evaluated
    assert len(asked.damaged) == 1
    assert damaged.run_id in asked.damaged[0]
