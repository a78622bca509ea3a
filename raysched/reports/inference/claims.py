"""Which methods differ from the reference: on the target average, on source dev, and per language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Section, Table, counted
from raysched.reports.inference import means
from raysched.reports.inference.means import Judged, p_text
from raysched.reports.methods import Method, objective
from raysched.reports.render.markdown import code
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, metric_name

SIGNIFICANT = "*"
SOURCE_DEV = "source dev"
COLUMNS = ("pairs", "difference", "95 % interval", "p", "p (Holm)", "dz", "g", "verdict")
UNIT = (
    "The unit of every test is a seed: one number per run, paired with the reference's run of the same seed. A run's "
    "languages and questions share its initialisation and its order of the data, so they are not pooled as if they "
    "were independent: 4 seeds x 11 languages taken as 44 pairs find a difference where there is none in 17 to 45 % of "
    "cases at a level of 5 % (where 10 to 50 % of the variance is shared by a seed's languages)."
)

UNPAIRED = (
    "Unpaired: no seed is shared. The test is Welch's, with the degrees of freedom of the smaller sample, and dz is "
    "over the mean variance."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opponents:
    """What is compared within a sweep: each of `others` with `reference`, in `metric`."""

    sweep: Sweep
    reference: Method
    others: tuple[Method, ...]
    metric: str

    @classmethod
    def of(cls, asked: Asked, sweep: Sweep) -> Opponents | None:
        """None where the sweep has no reference, or nothing beside it."""
        reference = asked.reference_of(sweep)
        others = tuple(one for one in asked.methods if one.sweep is sweep and one is not reference)
        if reference is None or not others:
            return None
        return cls(sweep=sweep, reference=reference, others=others, metric=objective(sweep))

    @property
    def title(self) -> str:
        return f"{metric_name(self.metric)} against {self.reference.label}"

    def planned(self, method: Method) -> int:
        """Pairs, if all runs were done."""
        return min(method.planned, self.reference.planned)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where two methods are compared: a language of a test set, its target average, or source dev."""

    test_set: str = ""
    language: str = ""

    def values(self, method: Method, metric: str) -> Mapping[int, float]:
        if not self.test_set:
            return method.source_dev(metric)
        if not self.language:
            return method.averages(metric, self.test_set)
        return method.scores(metric, self.language, self.test_set)

    def __str__(self) -> str:
        return self.language or (f"targets ({self.test_set})" if self.test_set else SOURCE_DEV)


_Family = dict[tuple[_Place, str], Judged]
"""By place and the name of the method."""


def claims(asked: Asked) -> Section | None:
    """Every method against the reference of its sweep, in the metric that the sweep is selected by.

    Families for Holm: a sweep's methods x test sets on the target average; its methods on source dev; its methods x
    test sets x languages. A sweep without the reference is named. None where there are no two methods with results.
    """
    tables: list[Table] = []
    without: list[str] = []
    pairs: list[int] = []
    for sweep in asked.sweeps:
        who = Opponents.of(asked, sweep)
        if who is None:
            without += _without(asked, sweep)
            continue
        sets = sweep.study.test_sets
        averages = _family(who, [_Place(test_set=name) for name in sets if sweep.targets(name)], asked.margin)
        source = _family(who, [_Place()], asked.margin)
        places = [_Place(test_set=name, language=one) for name, chosen in sets.items() for one in chosen.languages]
        languages = _family(who, places, asked.margin)
        found = [one.comparison.n for one in (*averages.values(), *source.values(), *languages.values())]
        if not any(found):
            continue
        pairs += [n for n in found if n]
        tables.append(_average_table(who, averages, source, asked.margin))
        tables += [_language_table(who, languages, test_set) for test_set in sets]
    if not tables and not without:
        return None
    text = (*(_text(pairs, asked.margin) if tables else ()), *without)
    return Section(title="Differences between methods", text=text, tables=tuple(tables))


def _without(asked: Asked, sweep: Sweep) -> list[str]:
    """That nothing was tested, though there are two methods with results, and how it would be."""
    labels = [one.label for one in asked.methods if one.sweep is sweep and one.records]
    if len(labels) < 2:
        return []
    return [
        f"Nothing was tested in {code(sweep.layout.name)}, for it has no {code(asked.reference)} to compare with: "
        f"choose with {code('--reference')} among {', '.join(map(code, labels))}."
    ]


def _family(who: Opponents, places: Sequence[_Place], margin: float) -> _Family:
    """Tests that Holm adjusts together."""
    keys = [(place, method) for place in places for method in who.others]
    comparisons = [
        means.compare(place.values(method, who.metric), place.values(who.reference, who.metric))
        for place, method in keys
    ]
    judged = means.judge(comparisons, margin)
    return {(place, method.name): one for (place, method), one in zip(keys, judged, strict=True)}


def _tests(family: _Family) -> int:
    return sum(one.comparison.p is not None for one in family.values())


def _short(who: Opponents, family: _Family) -> bool:
    """Whether pairs are missing anywhere."""
    planned = {method.name: who.planned(method) for method in who.others}
    return any(one.comparison.n < planned[name] for (_, name), one in family.items())


def _average_table(who: Opponents, averages: _Family, source: _Family, margin: float) -> Table:
    both = {**averages, **source}
    places = dict.fromkeys(place for place, _ in both)
    near = means.points(margin)
    blocks = [tuple(_row(who, p, method, both[p, method.name]) for method in who.others) for p in places]
    return Table(
        name=f"differences-{who.metric}-{who.sweep.layout.name}",
        title=f"{who.title}, {who.sweep.layout.name}",
        stub=("measured on", "method"),
        columns=COLUMNS,
        blocks=tuple(blocks),
        notes=(
            f"Difference: mean over seeds of method minus {who.reference.label}, in points (0-100), with the t "
            "interval of the paired differences (std with ddof 1). p: paired t-test, two-sided. p (Holm): adjusted "
            f"over the tests on target averages ({_tests(averages)}), and over those on source dev ({_tests(source)}).",
            "dz: the difference in standard deviations of the paired differences. g: dz corrected for few seeds "
            "(Hedges).",
            "Verdict at a level of 5 %, each kind adjusted in the same families: different; equivalent within "
            f"{near} (two one-sided t-tests); no worse, within {near} (the lower of the two); "
            "undecided where the seeds show none of these.",
            "Checkpoints and points were selected on source dev: its scores favour a method with more points.",
            *([UNPAIRED] if any(not one.comparison.paired for one in both.values()) else []),
            *([f"{DAGGER}: fewer pairs than planned."] if _short(who, both) else []),
        ),
    )


def _row(who: Opponents, place: _Place, method: Method, judged: Judged) -> Row:
    found, planned = judged.comparison, who.planned(method)
    pairs = str(found.n) if found.n == planned else f"{found.n} of {planned} {DAGGER}"
    texts = (
        pairs if found.paired else f"{len(found.a)} and {len(found.b)}, unpaired",
        signed(found.difference),
        str(found.interval or "-"),
        p_text(found.p),
        p_text(judged.p),
        signed(found.effect),
        signed(found.g),
        judged.verdict,
    )
    return Row(labels=(str(place), method.label), cells=tuple(Cell(text=text) for text in texts))


def signed(value: float | None) -> str:
    """Such as `+1.20`, or `-` where there is none."""
    return "-" if value is None else f"{value:+.2f}"


def _language_table(who: Opponents, family: _Family, test_set: str) -> Table:
    languages = who.sweep.study.test_sets[test_set].languages
    rows = []
    for method in who.others:
        found = [family[_Place(test_set=test_set, language=one), method.name] for one in languages]
        rows.append(Row(labels=(method.label,), cells=tuple(_cell(one, who.planned(method)) for one in found)))
    return Table(
        name=f"differences-languages-{who.metric}-{test_set}-{who.sweep.layout.name}",
        title=f"{who.title} per language, {test_set}, {who.sweep.layout.name}",
        stub=("method",),
        columns=languages,
        blocks=(tuple(rows),),
        notes=(
            f"Mean over seeds of method minus {who.reference.label}, in points, and in parentheses the p of the paired "
            f"t-test, Holm-adjusted over all {_tests(family)} tests of methods x languages x test sets of this sweep; "
            f"none where not testable. {SIGNIFICANT}: different at a level of 5 % (adjusted).",
            *([f"{DAGGER}: fewer pairs than planned."] if _short(who, family) else []),
        ),
    )


def _cell(judged: Judged, planned: int) -> Cell:
    found = judged.comparison
    if found.difference is None:
        return Cell(text="-")
    mark = SIGNIFICANT if judged.different else ""
    p = f" ({p_text(judged.p)})" if judged.p is not None else ""
    return Cell(text=f"{found.difference:+.2f}{mark}{p}{f' {DAGGER}' if found.n < planned else ''}")


def _text(pairs: Sequence[int], margin: float) -> tuple[str, ...]:
    """What is tested, and what so many pairs allow."""
    n, enough = min(pairs), means.rank_test_seeds()
    shown = counted(n, "pair") if n == max(pairs) else f"{n} to {max(pairs)} pairs"
    return (
        UNIT,
        f"Compared here: {shown} of seeds. Intervals and tests are about seeds, on these test questions. Not "
        f"significant is not the same as equal: equivalence within {means.points(margin)} is a test of its own. With "
        "few pairs only large differences are found; `raysched power` says how many seeds a smaller one takes.",
        *(
            [
                f"Rank tests are not shown: with {counted(n, 'pair')} the smallest two-sided p that one can give is "
                f"{means.rank_test_floor(n):g}, and it can reach 5 % from {enough} pairs on."
            ]
            if n < enough
            else []
        ),
    )
