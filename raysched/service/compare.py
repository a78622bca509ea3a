"""Two sweeps beside each other: their studies, the runs they share, and whether those gave the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.reports.sweep import Sweep, read_sweep
from raysched.study.identity import Resolved, evaluation_id
from raysched.study.load import diff
from raysched.study.space import Point

ADAPTER, TENSORS = "adapter/", ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPair:
    """A run of both sweeps. `status` are those in the first and the second: finished, failed or open.

    `fields` are the results that differ, by name, with both values; empty unless both finished.
    """

    run_id: str
    point: Point
    seed: int
    status: tuple[str, str]
    fields: dict[str, tuple[Any, Any]]

    @property
    def kind(self) -> str:
        """equal, different, one_finished, both_failed or open."""
        if self.status == ("finished", "finished"):
            return "different" if self.fields else "equal"
        if "finished" in self.status:
            return "one_finished"
        return "both_failed" if self.status == ("failed", "failed") else "open"

    def __str__(self) -> str:
        return f"{self.point} seed={self.seed}"

    def to_json(self) -> dict[str, Any]:
        shown = {"run_id": self.run_id, "point": self.point.params(), "seed": self.seed, "status": list(self.status)}
        return shown | {"kind": self.kind, "fields": {name: list(values) for name, values in self.fields.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`study` and `inputs` are lines `key: of the first -> of the second`; runs are shown as point and seed."""

    names: tuple[str, str]
    study: tuple[str, ...]
    inputs: tuple[str, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """Runs that only the first, only the second has."""
    pairs: tuple[RunPair, ...]
    damaged: tuple[tuple[str, ...], tuple[str, ...]]
    """Records that could not be read; their runs count as open."""

    def of(self, kind: str) -> list[RunPair]:
        return [pair for pair in self.pairs if pair.kind == kind]

    def to_json(self) -> dict[str, Any]:
        return {
            "sweeps": list(self.names),
            "study": list(self.study),
            "inputs": list(self.inputs),
            "only": [list(one) for one in self.only],
            "runs": [pair.to_json() for pair in self.pairs],
            "damaged": [list(one) for one in self.damaged],
        }


def compare(first: SweepLayout, second: SweepLayout) -> Comparison:
    """Works while they run.

    Raises:
        MissingError: one of them is not there.
        DamageError: the ledger of one is damaged.
    """
    a, b = _read(first), _read(second)
    runs_a, runs_b = dict(runs(a)), dict(runs(b))
    shared = [run_id for run_id in runs_a if run_id in runs_b]
    return Comparison(
        names=(a.layout.name, b.layout.name),
        study=tuple(diff(a.study, b.study)),
        inputs=tuple(_inputs(a.resolved, b.resolved)),
        only=(_only(runs_a, runs_b), _only(runs_b, runs_a)),
        pairs=tuple(_pair(a, b, run_id, *runs_a[run_id]) for run_id in shared),
        damaged=(a.damaged, b.damaged),
    )


def _read(layout: SweepLayout) -> Sweep:
    layout.pull(layout.ledger, layout.runs)
    return read_sweep(layout)


def runs(sweep: Sweep) -> Iterator[tuple[str, tuple[Point, int]]]:
    """run_id -> point and seed of every run that the ledger knows."""
    for number, point in sweep.points.items():
        for seed, run_id in sorted(sweep.state.points[number].run_ids.items()):
            yield run_id, (point, seed)


def _only(these: dict[str, tuple[Point, int]], others: dict[str, tuple[Point, int]]) -> tuple[str, ...]:
    return tuple(f"{point} seed={seed}" for run_id, (point, seed) in these.items() if run_id not in others)


def _inputs(a: Resolved, b: Resolved) -> Iterator[str]:
    """What the inputs were resolved to, where that differs; where they lie on a machine does not count."""
    one, other = revisions(a), revisions(b)
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            yield f"{key}: {one.get(key, 'none')[:12]} -> {other.get(key, 'none')[:12]}"


def revisions(resolved: Resolved) -> dict[str, str]:
    """Name of an input -> what it held."""
    found = {"device": resolved.device}
    named = {key: getattr(resolved, key) for key in ("train", "dev", "backbone", "replay")}
    for test_set in ("test", *resolved.also):
        named |= {f"{test_set} {language}": one for language, one in resolved.tests(test_set).items()}
    named |= {f"language adapter {language}": one for language, one in resolved.language_adapters.items()}
    return found | {key: one.revision for key, one in named.items() if one is not None}


def _pair(a: Sweep, b: Sweep, run_id: str, point: Point, seed: int) -> RunPair:
    one, other = a.records.get(run_id), b.records.get(run_id)
    both = one is not None and other is not None and one.status == other.status == "finished"
    return RunPair(
        run_id=run_id,
        point=point,
        seed=seed,
        status=(_status(one), _status(other)),
        fields=different(one, other, _test_sets(a) | _test_sets(b)) if both and one and other else {},
    )


def _status(record: Record | None) -> str:
    return "open" if record is None else "finished" if record.status == "finished" else "failed"


def _test_sets(sweep: Sweep) -> dict[str, str]:
    """evaluation_id -> name of the test set, of every finished run."""
    return {
        evaluation_id(sweep.study, sweep.resolved, record.run_id, name, record.params.get("method", "adapters")): name
        for record in sweep.records.values()
        if record.status == "finished"
        for name in sweep.study.test_sets
    }


def different(one: Record, other: Record, test_sets: dict[str, str]) -> dict[str, tuple[Any, Any]]:
    """The results of two finished attempts at one run that are not the same; tests that only one has do not count.

    `test_sets` gives names to evaluation ids.
    """
    a, b = _results(one, test_sets), _results(other, test_sets)
    common = one.tests.keys() & other.tests.keys()
    tested = {test_sets.get(key, key) for key in common}
    names = [name for name in dict.fromkeys((*a, *b)) if not name.startswith("test/") or name.split("/")[1] in tested]
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}


def _results(record: Record, test_sets: dict[str, str]) -> dict[str, Any]:
    """All that was found out, by name."""
    found: dict[str, Any] = {"steps": record.steps, "selected_step": record.selected_step}
    found |= {f"source_dev/{metric}": value for metric, value in record.source_dev.items()}
    for key, languages in record.tests.items():
        for language, scores in languages.items():
            name = f"test/{test_sets.get(key, key)}/{language}"
            found |= {f"{name}/{metric}": value for metric, value in scores.items()}
    found["unfreeze_order"] = " ".join(f"{step}:{','.join(map(str, layers))}" for step, layers in record.unfreeze_order)
    tensors = {name: sha256 for name, sha256 in record.files.items() if name.startswith(ADAPTER)}
    return found | {name: sha256[:16] for name, sha256 in tensors.items() if name.endswith(TENSORS)}
