"""What can be seen in the figures of traces and orders, in words: texts for those who cannot see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysched.reports.traces.curves import Curve, above, mean, peak
from raysched.reports.traces.orders import tau

MOST = 8
"""So many lines or panels are told one by one; of more, only how many there are besides."""


def curves(panels: Mapping[str, Mapping[str, Sequence[Curve]]]) -> str:
    """Figure 3: where each line is highest, where it ends, and which of two is above the other."""
    return " ".join(_panel(title, {name: mean(runs) for name, runs in of.items()}) for title, of in panels.items())


def _panel(title: str, means: Mapping[str, Curve]) -> str:
    steps = sorted({step for curve in means.values() for step in curve})
    parts = [f"{_lines(len(means))} of tr(F) from step {steps[0]} to {steps[-1]}"]
    parts += [
        f"{name} peaks at step {peak(curve)} with {max(curve.values()):.3g} nats² and ends at {curve[max(curve)]:.3g}"
        for name, curve in list(means.items())[:MOST]
    ]
    parts += _more(len(means))
    if len(means) == 2:
        (one, first), (other, second) = means.items()
        higher, n = above(second, first)
        parts.append(f"{other} is above {one} at {higher} of {n} common steps")
    return f"{title}: {'; '.join(parts)}." if title else f"{'; '.join(parts)}."


def groups(of: Sequence[tuple[str, Curve, Curve]], metric: str) -> str:
    """Figure 4: per group where tr(F) is highest, and how the validation score ends."""
    parts = [
        f"{name}: tr(F) is highest at step {peak(trace)}, dev {metric} goes from {scores[min(scores)]:.1f} at "
        f"step {min(scores)} to {scores[max(scores)]:.1f} at step {max(scores)}"
        for name, trace, scores in of[:MOST]
    ]
    return f"{_lines(len(of))} in each of two panels. {'; '.join([*parts, *_more(len(of))])}."


def layers(maps: Mapping[str, Mapping[int, Sequence[float]]], woken: Mapping[str, Sequence[Mapping[int, int]]]) -> str:
    """Heat maps: where each is brightest, and when layers woke."""
    parts = [_map(name, traces, woken.get(name, ())) for name, traces in list(maps.items())[:MOST]]
    return f"Heat maps of tr(F), layer by step. {'; '.join([*parts, *_more(len(maps))])}."


def _map(name: str, traces: Mapping[int, Sequence[float]], woken: Sequence[Mapping[int, int]]) -> str:
    value, step, layer = max(
        (value, -step, layer) for step, values in traces.items() for layer, value in enumerate(values)
    )
    steps = [step for of in woken for step in of.values()]
    when = f"layers wake from step {min(steps)} to {max(steps)}" if steps else "no layer wakes during training"
    return f"{name}: highest in layer {layer} at step {-step} ({value:.3g} nats²), {when}"


def events(panels: Mapping[str, Sequence[Sequence[int]]]) -> str:
    """Figure 5: which layers come first and last, and how that compares with top-down."""
    parts = [_order(name, runs) for name, runs in list(panels.items())[:MOST]]
    return f"The layer woken at each event. {'; '.join([*parts, *_more(len(panels))])}."


def _order(name: str, runs: Sequence[Sequence[int]]) -> str:
    first, last = sorted({run[0] for run in runs}), sorted({run[-1] for run in runs})
    top_down = tuple((layer,) for layer in sorted({layer for run in runs for layer in run}, reverse=True))
    taus = [found for run in runs if (found := tau(tuple((layer,) for layer in run), top_down)) is not None]
    against = f", mean tau against top-down {sum(taus) / len(taus):.2f}" if taus else ""
    return f"{name} begins with {_layers(first)} and ends with {_layers(last)}{against}"


def agreement(names: Sequence[str], taus: Mapping[tuple[str, str], float]) -> str:
    """The heat map of Kendall's tau: each method's seeds, and the most and least alike pair."""
    within = [f"{name} {taus[name, name]:.2f}" for name in names if (name, name) in taus]
    between = {key: value for key, value in taus.items() if key[0] != key[1]}
    text = f"Heat map of Kendall's tau between {len(names)} methods."
    if within:
        text += f" Between seeds: {', '.join(within)}."
    for what, choose in (("Most", max), ("Least", min)):
        if between:
            one, other = choose(between, key=lambda key: between[key])
            text += f" {what} alike: {one} and {other} ({between[one, other]:.2f})."
    return text


def _layers(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _lines(n: int) -> str:
    return "One line" if n == 1 else f"{n} lines"


def _more(n: int) -> list[str]:
    return [f"and {n - MOST} more"] if n > MOST else []
