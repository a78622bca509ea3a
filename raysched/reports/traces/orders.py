"""In which order layers woke, and how alike two orders are (Kendall's tau). Plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, product

from raysched.records.record import Record

Order = tuple[tuple[int, ...], ...]
"""Layers (0 is nearest the embeddings) per event, in the order in which they woke; those of one event are ties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Kendall's tau over pairs of runs: mean, lowest and highest of those pairs for which it is defined."""

    mean: float
    low: float
    high: float
    pairs: int


def order(record: Record) -> Order:
    """The layers that events woke. Those awake from the start are no part of it: no event chose them.

    Events that woke nothing are left out.
    """
    return tuple(layers for step, layers in record.unfreeze_order if step and layers)


def wakes(record: Record) -> dict[int, int]:
    """Layer -> step at which an event woke it."""
    return {layer: step for step, layers in record.unfreeze_order if step for layer in layers}


def one_by_one(orders: Iterable[Order]) -> bool:
    """Whether there are events, and each woke one layer: what Figure 5 can draw. LP-FT wakes all layers at once."""
    events = [layers for one in orders for layers in one]
    return bool(events) and all(len(layers) == 1 for layers in events)


def tau(one: Order, other: Order) -> float | None:
    """Kendall's tau-b of two orders, from 1 (same) to -1 (reverse), over the layers that both have.

    None where it is undefined: fewer than two common layers, or all of them woken together in one of the orders.
    """
    from scipy.stats import kendalltau  # takes a second

    places = [{layer: place for place, layers in enumerate(which) for layer in layers} for which in (one, other)]
    common = sorted(places[0].keys() & places[1].keys())
    ranks = [[of[layer] for layer in common] for of in places]
    if any(len(set(of)) < 2 for of in ranks):
        return None
    return float(kendalltau(*ranks).statistic)


def agreement(one: Mapping[int, Order], other: Mapping[int, Order] | None = None) -> Agreement | None:
    """Over pairs of a run of one and a run of the other, by seed; without another, of two runs of one.

    Pairs have different seeds: runs of one seed share their random numbers, so that `rand` wakes the same layers in
    every sweep. Only where there is no such pair, both having one and the same seed, that seed's two runs are compared.
    None where tau is defined for no pair.
    """
    if other is None:
        pairs = list(combinations(one.values(), 2))
    else:
        both = list(product(one.items(), other.items()))
        apart = [(a, b) for (seed, a), (again, b) in both if seed != again]
        pairs = apart or [(a, b) for (_, a), (_, b) in both]
    taus = [found for pair in pairs if (found := tau(*pair)) is not None]
    if not taus:
        return None
    return Agreement(mean=math.fsum(taus) / len(taus), low=min(taus), high=max(taus), pairs=len(taus))


def agreements(orders: Mapping[str, Mapping[int, Order]]) -> dict[tuple[str, str], Agreement]:
    """By pair of names, in both directions: how alike their orders, by seed, are; (name, name) is between its seeds.

    What is undefined is not in it.
    """
    found: dict[tuple[str, str], Agreement] = {}
    for name, runs in orders.items():
        if (within := agreement(runs)) is not None:
            found[name, name] = within
    for one, other in combinations(orders, 2):
        if (between := agreement(orders[one], orders[other])) is not None:
            found[one, other] = found[other, one] = between
    return found
