"""What becomes of an attempt that did not finish: another one with the same seed, or the end of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Tries = Literal["budget", "twice", "once"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`tries`: attempts a run gets in all, `budget` standing for the study's `budget.attempts`; `advice` for its user.

    In the advice `{gpu}` is the next larger share of a GPU.
    """

    tries: Tries
    advice: str


RETRY = "raysched retry tries it again"
RULES: Mapping[str, Rule] = {
    "worker_lost": Rule("budget", f"its worker died every time; the worker's log says why, and {RETRY}"),
    "node_lost": Rule("budget", f"its machines went away every time; look at the cluster, then {RETRY}"),
    "hang": Rule("budget", "if its evaluations take that long, --set budget.hang_s to more, or to null for never"),
    "storage": Rule("budget", f"make room or repair the storage, then {RETRY}"),
    "checkpoint": Rule("budget", f"its checkpoints were damaged every time; look at the storage, then {RETRY}"),
    "unknown": Rule("budget", f"Ray gave no reason that is known here; with more attempts: {RETRY}"),
    "oom": Rule("twice", f"fewer runs to a machine: --set resources.memory_gb to what a run needs, then {RETRY}"),
    "cuda_oom": Rule(
        "twice",
        f"fewer runs to a GPU: --set resources.gpu={{gpu}}, then {RETRY}; or --set training.batch_size to less, which "
        "is another experiment and needs another --name",
    ),
    "memory": Rule("once", f"it asks for more memory than its process may have: raise that limit, then {RETRY}"),
    "nan": Rule("once", "a smaller search.lr, or a smaller training.max_grad_norm, is another experiment"),
    "data": Rule("once", "correct the data or the study; the same again would fail the same way"),
    "code": Rule("once", "the traceback lies in error.txt of its attempt's folder"),
}
"""Cause -> what is done about it. Data, code and divergence would only repeat with the same seed."""

RETRIED = frozenset(cause for cause, rule in RULES.items() if rule.tries == "budget")
"""Causes that the study's whole budget of attempts is spent on."""
SHARES = (0.1, 0.125, 0.2, 0.25, 0.5, 1.0)
"""Customary shares of a GPU."""

ALONE = frozenset({"oom", "cuda_oom"})
"""Causes that may be a neighbour's doing: the next attempt has the cluster to itself."""


def again(cause: str | None, tries: int, attempts: int) -> bool:
    """Whether a run whose `tries`-th attempt ended for `cause` gets another; `attempts` is the study's budget."""
    rule = RULES.get(cause or "code", RULES["unknown"])
    return tries < {"budget": attempts, "twice": min(2, attempts), "once": 1}[rule.tries]


def advised(cause: str | None, message: str, gpu: float | Literal["auto"] = "auto") -> str:
    """The message of a run that ended for `cause`, with what its user can do; `gpu` is the study's `resources.gpu`."""
    advice = RULES.get(cause or "code", RULES["unknown"]).advice
    share = 1.0 if gpu == "auto" else float(gpu)
    if cause == "cuda_oom" and share >= 1:
        advice = (
            "a run has the whole GPU: --set training.batch_size to less is another experiment, needs another --name"
        )
    larger = next((one for one in SHARES if one > share), 1.0)
    first, *more = message.strip().splitlines() or [cause or "code"]  # the first line is what `raysched status` shows
    return "\n".join([f"{first}; next: {advice.format(gpu=f'{larger:g}')}", *more])
