"""tr(F) per layer, per example and exact, in one pass with hooks (equation 1 of the paper).

tr(F_j) = E_x E_{y ~ p(y|x)} ||d log p(y|x) / d theta_j||^2, theta_j the Linears of layer j's task adapter, its low-rank
matrices (LoRA), or the Linears of encoder layer j (full fine-tuning; LayerNorms and embeddings are left out).
With logits z, p = softmax(z) and J = dz/dtheta, any v with E v = 0 and E vv^T = diag(p) - pp^T makes ||J^T v||^2
unbiased, so a draw of v and one backward from the logits measure every layer at once. Hooks keep each
unit's input A and output (`recorder`); the backward gives G, the gradient of the output; example b's weight gradient
is G_b^T A_b (`units`). Where nothing below needs a gradient the graph starts at that output, so frozen parameters can
be measured, and no flag is flipped, no `.grad` written, no hook left, no global random number drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysched.errors import Diverged, RunError, StudyError
from raysched.unfreezing import units
from raysched.unfreezing.directions import directions
from raysched.unfreezing.lead import LEAST_BATCHES, Lead, lead
from raysched.unfreezing.recorder import Recorder

LABELS = ("auto", "exact", "noise", "sampled", "mode", "true")
"""Which y. `auto`: exact where every group has at most 3 classes, else noise. `mode` and `true` are not Fisher."""
ESTIMATORS = ("per_example", "batch", "released")
"""`per_example`: mean of ||g_b||^2. `batch`: B * ||mean g||^2, unbiased for sampled and noise labels alone.

`released` (the authors' code, method 4.1): the squared gradient of the mean loss, the groups' losses counted as
examples of their own (a span has 2B), divided by a constant (B) and summed over the batches. For G groups and whole
batches `batch` is G^2 * B^2 times one batch's `released`.
"""
SMALL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FisherTrace:
    """tr(F) per layer (L values), and its standard error: over examples, or over batches for `batch` and `released`.

    `se` is None where there was but one of them. `labels` is what was used, never `auto`. `n_groups` logit groups make
    one example. `lead` is that of the best contender, where there were any.
    """

    traces: tuple[float, ...]
    se: tuple[float, ...] | None
    n_batches: int
    n_examples: int
    labels: str
    estimator: str
    n_groups: int
    lead: Lead | None = None


def measure(
    *,
    forward: Callable[[Any], list[Tensor]],
    batches: Iterable[Any],
    modules: Sequence[Sequence[nn.Module]],
    model: nn.Module,
    labels: str = "auto",
    estimator: str = "per_example",
    generator: torch.Generator,
    targets: Callable[[Any], list[Tensor]] | None = None,
    rows_per_example: int | Callable[[Any], int] = 1,
    draws: int = 1,
    divisor: int = 1,
    contenders: Sequence[int] = (),
    singly: Callable[[Any], Iterable[Any]] | None = None,
) -> FisherTrace:
    """tr(F) of each layer, mean over the examples of `batches`, in evaluation mode.

    `forward(batch)` returns logit groups, each (B, C): independent categorical variables whose log-probabilities
    add (start and end of a span). `targets(batch)` returns one (B,) of class numbers per group, for `true` labels;
    a number outside 0..C-1 is ignored, as the loss ignores it. `rows_per_example`: how many consecutive rows of the
    model's batch make one example (the choices of a question). `draws`: v per batch, for sampled and noise labels.
    `divisor` is the constant of estimator `released`. With two `contenders` (layers) or more no further batch is
    measured once the best of them is clear: a function of the same draws, so it ends the same way each time.
    `singly(batch)` gives its examples as batches of one: they are run one by one where the model computes something
    once for all of them (DeBERTa's relative positions) and that is measured per example.

    Raises StudyError for options, Diverged where probabilities or traces are not finite, RunError where the
    modules do not do what is measured here.
    """
    _check_options(labels, estimator, targets, draws)
    values: list[Tensor] = []
    n_batches = n_examples = n_groups = 0
    ahead: Lead | None = None

    def one(batch: Any) -> Tensor:
        # a function of its own: its graph is gone before the next forward makes another
        nonlocal labels, n_examples, n_groups
        recorder.start()
        groups = forward(batch)
        n, n_groups = _check_groups(groups), len(groups)
        rows = n * (rows_per_example(batch) if callable(rows_per_example) else rows_per_example)
        if singly is not None and n > 1 and estimator == "per_example" and recorder.shared(rows):
            del groups
            return torch.cat([one(example) for example in singly(batch)])
        if labels == "auto":
            small = estimator == "per_example" and all(group.shape[1] <= SMALL for group in groups)
            labels = "exact" if small else "noise"
        wanted = targets(batch) if labels == "true" and targets is not None else None
        passes = draws if labels in ("noise", "sampled") else 1
        vectors = directions(groups, labels, passes, generator, wanted)
        n_examples += n
        squares = recorder.square(groups, vectors, n, rows, estimator) / passes
        return squares / (n * n_groups**2 * divisor) if estimator == "released" else squares

    with _undisturbed(model, modules), Recorder(modules) as recorder:
        for batch in batches:
            values.append(one(batch))
            n_batches += 1
            if len(contenders) > 1 and n_batches >= LEAST_BATCHES:
                ahead = lead(torch.cat(values), contenders)
                if ahead.clear:
                    break
    if not values:
        raise RunError("at least one batch must be measured, but got none", cause="data")
    table = torch.cat(values)  # (N, L): a row per example, or per batch
    if not bool(table.isfinite().all()):
        raise Diverged("tr(F) is not a finite number")
    scale = len(table) if estimator == "released" else 1  # a sum, where the others are means
    se = (table.std(dim=0, correction=1) / len(table) ** 0.5 * scale).tolist() if len(table) > 1 else None
    return FisherTrace(
        traces=tuple((table.mean(dim=0) * scale).tolist()),
        se=None if se is None else tuple(se),
        n_batches=n_batches,
        n_examples=n_examples,
        labels=labels,
        estimator=estimator,
        n_groups=n_groups,
        lead=ahead,
    )


def _check_options(labels: str, estimator: str, targets: object, draws: int) -> None:
    if labels not in LABELS:
        raise StudyError(
            f"must name the labels of the measurement, but got {labels!r}", key="fisher.labels", choices=LABELS
        )
    if estimator not in ESTIMATORS:
        raise StudyError(f"must name an estimator, but got {estimator!r}", key="fisher.estimator", choices=ESTIMATORS)
    if labels == "exact" and estimator != "per_example":
        raise StudyError(
            f"must be random for estimator {estimator}, whose cross terms vanish only on average, but got 'exact'",
            key="fisher.labels",
            choices=[name for name in LABELS if name != "exact"],
        )
    if labels == "true" and targets is None:
        raise StudyError("true labels must be given, but the task has none", key="fisher.labels", choices=LABELS[:-1])
    if type(draws) is not int or draws < 1:
        raise StudyError(f"draws >= 1 must hold, but got {draws!r}", key="fisher.draws")
    if draws > 1 and labels in ("exact", "mode", "true"):
        raise StudyError(
            f"draws == 1 must hold for labels {labels}, which are not drawn, but got {draws}",
            key="fisher.draws",
            choices=(1,),
        )


def _check_groups(groups: list[Tensor]) -> int:
    """B, the number of examples; RunError unless every group is (B, C), C >= 2, and has a graph."""
    shapes = [tuple(group.shape) for group in groups]
    if not shapes or any(len(shape) != 2 or shape[1] < 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise RunError(f"logit groups must all be (B, C) with one B and C >= 2, but got {shapes}", cause="code")
    if not all(group.requires_grad for group in groups):
        raise RunError(
            "the logits must depend on the measured Linears with gradients on, but need no gradient", cause="code"
        )
    return shapes[0][0]


@contextlib.contextmanager
def _undisturbed(model: nn.Module, modules: Sequence[Sequence[nn.Module]]) -> Iterator[None]:
    """Evaluation mode, float32, gradients on; afterwards every mode and the global generators are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    measured = (tensor for layer in modules for unit in layer for tensor in units.tensors(unit))
    device = next((tensor.device for tensor in measured), torch.device("cpu"))
    cuda = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training
