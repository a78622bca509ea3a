"""What comes free of a sweep: averages of what its runs kept, and every candidate on the targets. Nothing is trained.

The driver's word stays the driver's: neither ledger nor records are written, and a running sweep is not disturbed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysched.errors import DamageError, MissingError, StudyError
from raysched.records import derived, files
from raysched.records.derived import Derived, Kind, candidate_steps
from raysched.records.layout import AttemptLayout, SweepLayout
from raysched.records.record import Record
from raysched.reports.methods import methods
from raysched.reports.sweep import Sweep, read_sweep
from raysched.study.identity import RunSpec, evaluation_id
from raysched.study.model import MAIN
from raysched.study.space import Point

if TYPE_CHECKING:  # torch takes seconds to import
    from raysched.training.averaging import Score
    from raysched.training.bench import Bench

KINDS: dict[str, Kind] = {"checkpoints": "checkpoint_average", "seeds": "seed_average", "oracle": "candidate"}
"""What `--what` says, and what it makes."""
FEWEST = 2
"""Sets of tensors that have an average."""
WITHOUT = "trained without candidates"
NEXT = "they are kept while a run trains: --set evaluation.candidates=5, under another --name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One entry to make. `parts` are the tensors that go into it: a record, and their folder in its attempt."""

    kind: Kind
    cell_id: str
    seed: int | None
    steps: tuple[int, ...]
    evaluations: Mapping[str, str]
    parts: tuple[tuple[Record, str], ...]

    @property
    def derived_id(self) -> str:
        return derived.derived_id(self.kind, self.run_ids, self.steps, self.evaluations)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """One for an entry of one run, else those of the seeds."""
        return tuple(dict.fromkeys(record.run_id for record, _ in self.parts))

    def __str__(self) -> str:
        point = Point(**self.parts[0][0].params)
        match self.kind:
            case "seed_average":
                return f"{point}: average of {len(self.parts)} seeds"
            case "checkpoint_average":
                return f"{point} seed={self.seed}: average of {len(self.steps)} checkpoints"
            case _:
                return f"{point} seed={self.seed}: checkpoint of step {self.steps[0]}"


@dataclass(slots=True, kw_only=True)
class Plan:
    """What there is to make, methods' selected cells first; what was made before; what cannot be made, and why."""

    todo: list[Piece] = field(default_factory=list)
    done: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    """Why -> how many runs or cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`place` of `of` pieces is being made; `error` says why it was not, `made` that it is there now."""

    piece: Piece
    place: int
    of: int
    language: str = ""
    made: bool = False
    error: DamageError | None = None


def kinds(what: str | None) -> tuple[str, ...]:
    """The words of `--what`, without repeats; all where it is not given. Raises StudyError for any other word."""
    words = [word.strip() for word in what.split(",")] if what is not None else list(KINDS)
    for word in words:
        if word not in KINDS:
            raise StudyError(f"must be of what can be derived, but got {word!r}", key="--what", choices=tuple(KINDS))
    return tuple(dict.fromkeys(words))


def plan(sweep: Sweep, what: Sequence[str]) -> Plan:
    """What `what` (of `KINDS`) means for this sweep as it is now."""
    found, _ = derived.read_all(sweep.layout)
    planned = Plan()
    chosen = {one.number for one in methods([sweep])}
    for number in sorted(sweep.points, key=lambda number: number not in chosen):
        records = [record for record in sweep.cell(number) if record.status == "finished"]
        pieces: list[Piece] = []
        if "seeds" in what:
            pieces += _seeds(sweep, number, records, planned.lacking)
        for record in records:
            pieces += _of_run(sweep, record, what, planned.lacking)
        planned.todo += [piece for piece in pieces if piece.derived_id not in found]
        planned.done += sum(piece.derived_id in found for piece in pieces)
    return planned


def _evaluations(sweep: Sweep, point: Point) -> dict[str, str]:
    return {name: evaluation_id(sweep.study, sweep.resolved, "", name, point.method) for name in sweep.study.test_sets}


def _seeds(sweep: Sweep, number: int, records: Sequence[Record], lacking: Counter[str]) -> Iterator[Piece]:
    """The average over the seeds of a complete cell."""
    taken = sweep.state.points[number]
    if len(records) < max(FEWEST, len(taken.run_ids)):
        lacking["no average over seeds: the cell has not finished" if len(taken.run_ids) > 1 else "one seed only"] += 1
        return
    yield Piece(
        kind="seed_average",
        cell_id=taken.cell_id,
        seed=None,
        steps=tuple(record.selected_step or 0 for record in records),
        evaluations=_evaluations(sweep, sweep.points[number]),
        parts=tuple((record, "adapter") for record in records),
    )


def _of_run(sweep: Sweep, record: Record, what: Sequence[str], lacking: Counter[str]) -> Iterator[Piece]:
    """The average of a run's candidates, and each of them but the selected one, whose scores its record has."""
    point, steps = Point(**record.params), candidate_steps(record.files)
    if not {"checkpoints", "oracle"} & set(what):
        return
    if not steps:
        lacking["full fine-tuning keeps no candidates" if point.method == "full" else WITHOUT] += 1
        return
    common: dict[str, Any] = {
        "cell_id": record.cell_id,
        "seed": record.seed,
        "evaluations": _evaluations(sweep, point),
    }
    parts = {step: (record, f"candidates/step-{step:08d}") for step in steps}
    if "checkpoints" in what and len(steps) >= FEWEST:
        yield Piece(kind="checkpoint_average", steps=steps, parts=tuple(parts.values()), **common)
    elif "checkpoints" in what:
        lacking["no average of checkpoints: one candidate only"] += 1
    if "oracle" in what:
        for step in steps:
            if step != record.selected_step:
                yield Piece(kind="candidate", steps=(step,), parts=(parts[step],), **common)


def derive(sweep: Sweep, planned: Plan) -> Iterator[Progress]:
    """Make the pieces one after the other, telling after every scored language; it may be left at any time.

    What is damaged is told and passed over.

    Raises:
        MissingError, StudyError: an input of the sweep is not there, or is not what it was.
    """
    if not planned.todo:
        return
    maker = _Maker(sweep)
    for place, piece in enumerate(planned.todo, start=1):
        about: dict[str, Any] = {"piece": piece, "place": place, "of": len(planned.todo)}
        try:
            for language in maker.make(piece):
                yield Progress(language=language, **about)
        except DamageError as error:
            yield Progress(error=error, **about)
        else:
            yield Progress(made=True, **about)


class _Maker:
    """Keeps one bench for all pieces of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        from raysched.tracking.provenance import collect

        self.sweep, self.bench, self.versions = sweep, _bench(sweep), collect()

    def make(self, piece: Piece) -> Iterator[str]:
        """Yields each language that was scored; the entry is there when this ends."""
        from raysched.training import averaging

        specs = [self._spec(record) for record, _ in piece.parts]
        folders = [
            averaging.whole(AttemptLayout(self._root(record)), record.files, below) for record, below in piece.parts
        ]
        states = (averaging.tensors(self.bench, spec, at) for spec, at in zip(specs, folders, strict=True))
        state = averaging.average(states)
        source_dev: dict[str, float] = {}
        tests: dict[str, dict[str, dict[str, float]]] = {}
        kept: dict[str, str] = {}
        for score in averaging.scored(self.bench, specs[0], state):
            if score.test_set is None:
                source_dev = score.scores
            else:
                tests.setdefault(score.test_set, {})[score.language] = score.scores
                kept |= self._keep(piece, score)
            yield score.language
        entry = Derived(
            kind=piece.kind,
            cell_id=piece.cell_id,
            run_ids=piece.run_ids,
            seed=piece.seed,
            steps=piece.steps,
            evaluations=dict(piece.evaluations),
            source_dev=source_dev,
            tests=tests,
            files=kept,
            versions=self.versions,
        )
        derived.write(self.sweep.layout, entry)

    def _root(self, record: Record) -> Path:
        return self.sweep.layout.run(record.run_id).root / record.attempt_folder

    def _spec(self, record: Record) -> RunSpec:
        return RunSpec.make(self.sweep.study, self.sweep.resolved, Point(**record.params), record.seed)

    def _keep(self, piece: Piece, score: Score) -> dict[str, str]:
        """Name and SHA-256 of a language's predictions, which are written."""
        from raysched.tasks import predictions as parquet

        root = files.make_folder(derived.folder(self.sweep.layout, piece.derived_id))
        assert score.test_set is not None
        below = score.language if score.test_set == MAIN else f"{score.test_set}/{score.language}"
        name = f"predictions/{below}.parquet"
        origin = parquet.Origin(
            run_id=piece.derived_id,
            evaluation_id=piece.evaluations[score.test_set],
            language=score.language,
            split="test",
        )
        parquet.write(root / name, score.predictions, origin)
        return {name: files.sha256_file(root / name)}


def _bench(sweep: Sweep) -> Bench:
    """With the inputs that the ledger names, as they are here. Raises MissingError, StudyError."""
    import torch

    from raysched.runners import preflight
    from raysched.runners.changes import refuse_other_inputs
    from raysched.training.bench import Bench

    device = "cuda" if torch.cuda.is_available() else "cpu"
    now = preflight.resolve(sweep.study, device=device, known=sweep.resolved)
    refuse_other_inputs(sweep.resolved, now, sweep.layout.name)
    return Bench(sweep.study, now, sweep.layout.features)


def read(layout: SweepLayout) -> Sweep:
    """A sweep with at least one run that is done. Raises MissingError, DamageError."""
    sweep = read_sweep(layout)
    if not any(record.status == "finished" for record in sweep.records.values()):
        raise MissingError(f"no run of {layout.name} is done yet", key="SWEEP", hint="see raysched status")
    return sweep
