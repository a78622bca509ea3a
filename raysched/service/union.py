"""One study of two that differ in nothing but what a sweep may grow by: seeds, points, tests."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from pydantic import ValidationError

from raysched.errors import StudyError
from raysched.runners.changes import MAY_CHANGE, TESTS
from raysched.service.compare import revisions
from raysched.study.identity import Resolved
from raysched.study.load import diff
from raysched.study.model import Study
from raysched.study.search import Search
from raysched.study.space import Point, n_points, points

PRODUCT = ("schedule", "lr", "k", "method")
GROWS = ("seeds", *(f"search.{key}" for key in (*PRODUCT, "arms", "points", "seed")))


def united(a: Study, b: Study, taken: Collection[Point]) -> Study:
    """The first study with the seeds, points and further test sets of both; `taken` are the points both have begun.

    Raises:
        StudyError: they differ in anything that a sweep may not change, with the differences.
    """
    changed = [line for line in diff(a, b) if not line.startswith((*GROWS, *MAY_CHANGE, *TESTS))]
    if changed:
        raise StudyError(
            "the two are of different studies:\n    " + "\n    ".join(changed),
            key="SWEEP OTHER",
            hint="only seeds, points, tests, budget and resources may differ; `raysched diff` shows all differences",
        )
    value = a.model_dump(mode="json")
    value["seeds"] = list(dict.fromkeys((*a.seeds, *b.seeds)))
    value["search"] = _search(a.search, b.search, taken)
    value["evaluation"]["also"] = {**b.model_dump(mode="json")["evaluation"]["also"], **value["evaluation"]["also"]}
    try:
        return Study.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StudyError(f"the two cannot be one study: {first['msg']}", key="SWEEP OTHER") from error


def _search(a: Search, b: Search, taken: Collection[Point]) -> dict[str, object]:
    """The search over the points of both. A grid takes no others: what the product would add beside them is left
    out by giving the points of the second as arms."""
    value = a.model_dump(mode="json")
    both = dict.fromkeys((*points(a), *points(b)))
    product = value | {key: list(dict.fromkeys((*getattr(a, key), *getattr(b, key)))) for key in PRODUCT}
    arms = list(dict.fromkeys((*a.arms, *b.arms)))
    product["arms"] = [arm.model_dump(mode="json") for arm in arms]
    if a.sampler != "grid":
        everything = len(points(Search.model_validate_json(json.dumps(product))))
        wanted = max(n_points(a), n_points(b), len(taken))
        return product | {"points": None if wanted >= everything else wanted}
    try:
        if set(points(Search.model_validate_json(json.dumps(product)))) == set(both):
            return product
    except ValidationError:  # the product is too large, for one
        pass
    more = [_arm(point) for point in both if point not in set(points(a))]
    return value | {"arms": [*value["arms"], *more]}


def _arm(point: Point) -> dict[str, object]:
    return {"method": point.method, **point.params()}


def united_inputs(a: Resolved, b: Resolved, names: Sequence[str]) -> Resolved:
    """The inputs of both; each that both have is the same in both.

    Raises:
        StudyError: one is not.
    """
    one, other = revisions(a), revisions(b)
    changed = sorted(key for key in one.keys() & other.keys() if one[key] != other[key])
    if changed:
        raise StudyError(
            f"the content of {', '.join(changed)} is not the same in {names[0]!r} and {names[1]!r}",
            key="SWEEP OTHER",
            hint="their runs are different experiments, which one table must not mix",
        )
    return a.model_copy(
        update={
            "also": {**b.also, **a.also},
            "language_adapters": {**b.language_adapters, **a.language_adapters},
        }
    )
