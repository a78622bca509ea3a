"""The report's section on unfreeze orders: Figure 5 of the paper, how alike orders are, and every order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Picture, Row, Section, Table
from raysched.reports.sweep import Sweep
from raysched.reports.tables import order_text
from raysched.reports.traces import words
from raysched.reports.traces.gathering import labels, seeds_text, stem, titled, under
from raysched.reports.traces.orders import Agreement, agreements, one_by_one, order

MEANING = (
    "Kendall's tau-b compares two orders over the layers that both woke: 1 is the same order, -1 the reverse, 0 no "
    "relation. Layers that woke together are ties; those awake from the start do not count. It is "
    "the mean over pairs of runs with different seeds, one of each method: runs of one seed share their random numbers."
)
Taus = Mapping[tuple[str, str], Agreement]


def orders(asked: Asked) -> Section | None:
    """None where no finished run has an order."""
    tables = [table for sweep in asked.sweeps if (table := _order_table(asked, sweep)) is not None]
    if not tables:
        return None
    found = {method.name: {record.seed: order(record) for record in method.records} for method in asked.methods}
    pictures = [picture for sweep in asked.sweeps if (picture := _events(asked, sweep)) is not None]
    taus = agreements(found)
    named = [name for name in found if any(name in key for key in taus)]
    if named:
        pictures.append(_agreement(named, [name for name in found if name not in named], taus))
        tables.insert(0, _agreement_table(named, taus))
    text = (MEANING,) if named else ()
    return Section(title="Unfreeze orders", text=text, tables=tuple(tables), pictures=tuple(pictures))


def _events(asked: Asked, sweep: Sweep) -> Picture | None:
    """Figure 5 of one sweep: schedules that wake one layer at a time, but GU, which is the diagonal."""
    chosen, panels = [], {}
    for method in asked.methods:
        if method.sweep is sweep and method.point.schedule != "gu":
            runs = [one for record in method.records if (one := order(record))]
            if one_by_one(runs):
                chosen.append(method)
                panels[method.label] = [[layers[0] for layers in one] for one in runs]
    if not chosen:
        return None
    return Picture(
        name=stem(asked, "unfreeze-events", sweep),
        title=under(titled(asked, sweep), "Layer woken at each event"),
        caption="Layer woken at each event (the paper's Figure 5), against gradual unfreezing (GU), which wakes the "
        "same layers from the top down. Line: mean over seeds; band: lowest to highest seed; dots: each seed. "
        f"{seeds_text(chosen)}.",
        alt=words.events(panels),
        draw=partial(_draw_events, panels, labels(asked)),
    )


def _agreement(named: Sequence[str], without: Sequence[str], taus: Taus) -> Picture:
    means = {key: one.mean for key, one in taus.items()}
    left_out = f" Without an order to compare: {', '.join(without)}." if without else ""
    return Picture(
        name="unfreeze-agreement",
        title="Agreement of unfreeze orders",
        caption="Kendall's tau-b between the orders of methods, mean over pairs of runs with different seeds; on the "
        f"diagonal, between the seeds of one method. Hatched: undefined, as for a single seed.{left_out}",
        alt=words.agreement(named, means),
        draw=partial(_draw_agreement, named, means),
    )


def _agreement_table(named: Sequence[str], taus: Taus) -> Table:
    """The numbers of the heat map."""
    rows = tuple(
        Row(labels=(row,), cells=tuple(Cell(text=_text(taus.get((row, column)))) for column in named)) for row in named
    )
    return Table(
        name="unfreeze-agreement",
        title="Agreement of unfreeze orders: Kendall's tau-b",
        stub=("method",),
        columns=tuple(named),
        blocks=(rows,),
        notes=(
            "Mean (lowest to highest pair of runs). A method with itself: between its seeds. -: undefined.",
            "Pairs share runs, so they are no independent sample: the range is a description, not an interval.",
        ),
    )


def _text(one: Agreement | None) -> str:
    if one is None:
        return "-"
    return f"{one.mean:.2f}" if one.low == one.high else f"{one.mean:.2f} ({one.low:.2f} to {one.high:.2f})"


def _order_table(asked: Asked, sweep: Sweep) -> Table | None:
    """Every point's orders; seeds with the same one share a row."""
    rows = []
    for number, point in sweep.points.items():
        seeds: dict[str, list[int]] = {}
        for record in sweep.cell(number):
            if record.unfreeze_order:
                seeds.setdefault(order_text(record), []).append(record.seed)
        rows += [
            Row(labels=(str(point), ", ".join(map(str, same))), cells=(Cell(text=text),))
            for text, same in seeds.items()
        ]
    if not rows:
        return None
    return Table(
        name=stem(asked, "unfreeze-orders", sweep),
        title=under(titled(asked, sweep), "Unfreeze orders"),
        stub=("point", "seeds"),
        columns=("step: layers woken",),
        blocks=(tuple(rows),),
        notes=("Layer 0 is nearest the embeddings. Events that woke nothing are left out.",),
    )


def _draw_events(panels: Mapping[str, Sequence[Sequence[int]]], among: Sequence[str]) -> Any:
    from raysched.reports.figures import orders  # matplotlib takes a second

    return orders.events(panels, among)


def _draw_agreement(named: Sequence[str], means: Mapping[tuple[str, str], float]) -> Any:
    from raysched.reports.figures import orders

    return orders.agreement(named, means)
