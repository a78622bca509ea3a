"""What was derived of a sweep, looked up by the runs it was made of: averages, and candidates on the targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raysched.records.derived import Derived, Kind, candidate_steps, read_all
from raysched.records.record import Record, Scores
from raysched.reports.asked import Asked
from raysched.reports.methods import Method
from raysched.reports.stats import summarise
from raysched.reports.sweep import Sweep
from raysched.study.identity import evaluation_id
from raysched.study.space import Point


@dataclass(frozen=True, kw_only=True)
class Derivations:
    """Of one sweep. Entries made before a test set was added still count for those that they were scored on."""

    sweep: Sweep
    entries: Mapping[tuple[Kind, tuple[str, ...], tuple[int, ...]], Sequence[Derived]]

    @classmethod
    def of(cls, sweep: Sweep, asked: Asked) -> Derivations:
        """What cannot be read is told in `asked.damaged`, once."""
        found, damaged = read_all(sweep.layout)
        asked.damaged.extend(text for text in damaged if text not in asked.damaged)
        entries: dict[tuple[Kind, tuple[str, ...], tuple[int, ...]], list[Derived]] = {}
        for one in found.values():
            entries.setdefault((one.kind, one.run_ids, one.steps), []).append(one)
        return cls(sweep=sweep, entries=entries)

    def average(self, record: Record) -> Sequence[Derived]:
        """The average of all of a run's candidates."""
        return self.entries.get(("checkpoint_average", (record.run_id,), candidate_steps(record.files)), ())

    def over_seeds(self, method: Method) -> Sequence[Derived]:
        """The average of the selected adapters of all of a method's seeds."""
        runs = tuple(record.run_id for record in method.records)
        steps = tuple(record.selected_step or 0 for record in method.records)
        return self.entries.get(("seed_average", runs, steps), ()) if method.complete else ()

    def candidate(self, record: Record, step: int) -> Sequence[Derived]:
        return self.entries.get(("candidate", (record.run_id,), (step,)), ())

    def tests(self, entries: Iterable[Derived], point: Point, test_set: str) -> dict[str, Scores]:
        """language -> scores of the first entry that was scored on the test set as it is now."""
        now = evaluation_id(self.sweep.study, self.sweep.resolved, "", test_set, point.method)
        return next((one.tests[test_set] for one in entries if one.evaluations.get(test_set) == now), {})

    def choices(self, record: Record, test_set: str) -> dict[int, dict[str, Scores]]:
        """Step -> language -> scores of the selected checkpoint and of all kept candidates.

        Empty where the run kept no other candidates, or one of them was not scored on all languages.
        """
        point, languages = Point(**record.params), set(self.sweep.study.test_sets[test_set].languages)
        selected = record.selected_step or 0
        found = {selected: self.sweep.tests(record, test_set)}
        for step in candidate_steps(record.files):
            if step != selected:
                found[step] = self.tests(self.candidate(record, step), point, test_set)
        whole = all(languages <= scores.keys() for scores in found.values())
        return found if len(found) > 1 and whole else {}


def target_average(scores: Mapping[str, Scores], targets: Sequence[str], metric: str) -> float | None:
    """The mean over the targets (0-100); None where one was not scored."""
    if not all(metric in scores.get(language, {}) for language in targets):
        return None
    mean = summarise(scores[language][metric] for language in targets)
    return None if mean is None else mean.mean
