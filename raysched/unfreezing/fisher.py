"""tr(F) per layer, per example and exact, in one pass with hooks (equation 1 of the paper).

tr(F_j) = E_x E_{y ~ p(y|x)} ||d log p(y|x) / d theta_j||^2, theta_j the Linears of layer j's task adapter.
With logits z, p = softmax(z) and J = dz/dtheta, any v with E v = 0 and E vv^T = diag(p) - pp^T makes ||J^T v||^2
unbiased, so a draw of v and one backward from the logits measure every layer at once. Hooks keep each
Linear's input A and output; the backward gives G, the gradient of the output; example b's weight gradient
is G_b^T A_b. Where nothing below needs a gradient the graph starts at that output, so frozen parameters can be
measured, and no flag is flipped, no `.grad` written, no hook left, no global random number drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from raysched.errors import Diverged, RunError, StudyError
from raysched.unfreezing.directions import directions

LABELS = ("auto", "exact", "noise", "sampled", "mode", "true")
"""Which y. `auto`: exact where every group has at most 3 classes, else noise. `mode` and `true` are not Fisher."""
ESTIMATORS = ("per_example", "batch")
"""`per_example`: mean of ||g_b||^2. `batch`: B * ||mean g||^2, unbiased for sampled and noise labels alone."""
SMALL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FisherTrace:
    """tr(F) per layer (L values), and its standard error: over examples, or over batches for `batch`.

    `se` is None where there was but one of them. `labels` is what was used, never `auto`.
    """

    traces: tuple[float, ...]
    se: tuple[float, ...] | None
    n_batches: int
    n_examples: int
    labels: str
    estimator: str


def measure(
    *,
    forward: Callable[[Any], list[Tensor]],
    batches: Iterable[Any],
    modules: Sequence[Sequence[nn.Linear]],
    model: nn.Module,
    labels: str = "auto",
    estimator: str = "per_example",
    generator: torch.Generator,
    targets: Callable[[Any], list[Tensor]] | None = None,
    rows_per_example: int | Callable[[Any], int] = 1,
    draws: int = 1,
) -> FisherTrace:
    """tr(F) of each layer, mean over the examples of `batches`, in evaluation mode.

    `forward(batch)` returns logit groups, each (B, C): independent categorical variables whose log-probabilities
    add (start and end of a span). `targets(batch)` returns one (B,) of class numbers per group, for `true` labels;
    a number outside 0..C-1 is ignored, as the loss ignores it. `rows_per_example`: how many consecutive rows of the
    model's batch make one example (the choices of a question). `draws`: v per batch, for sampled and noise labels.

    Raises StudyError for options, Diverged where probabilities or traces are not finite, RunError where the
    modules do not do what is measured here.
    """
    _check_options(labels, estimator, targets, draws)
    values: list[Tensor] = []
    n_batches = n_examples = 0

    def one(batch: Any) -> Tensor:
        # a function of its own: its graph is gone before the next forward makes another
        nonlocal labels, n_examples
        recorder.start()
        groups = forward(batch)
        n = _check_groups(groups)
        if labels == "auto":
            small = estimator == "per_example" and all(group.shape[1] <= SMALL for group in groups)
            labels = "exact" if small else "noise"
        rows = rows_per_example(batch) if callable(rows_per_example) else rows_per_example
        wanted = targets(batch) if labels == "true" and targets is not None else None
        passes = draws if labels in ("noise", "sampled") else 1
        vectors = directions(groups, labels, passes, generator, wanted)
        n_examples += n
        return recorder.square(groups, vectors, n, n * rows, estimator) / passes

    with _undisturbed(model, modules), _Recorder(modules) as recorder:
        for batch in batches:
            values.append(one(batch))
            n_batches += 1
    if not values:
        raise RunError("at least one batch must be measured, but got none", cause="data")
    table = torch.cat(values)  # (N, L): a row per example, or per batch
    if not bool(table.isfinite().all()):
        raise Diverged("tr(F) is not a finite number")
    se = (table.std(dim=0, correction=1) / len(table) ** 0.5).tolist() if len(table) > 1 else None
    return FisherTrace(
        traces=tuple(table.mean(dim=0).tolist()),
        se=None if se is None else tuple(se),
        n_batches=n_batches,
        n_examples=n_examples,
        labels=labels,
        estimator=estimator,
    )


def _check_options(labels: str, estimator: str, targets: object, draws: int) -> None:
    if labels not in LABELS:
        raise StudyError(
            f"must name the labels of the measurement, but got {labels!r}", key="fisher.labels", choices=LABELS
        )
    if estimator not in ESTIMATORS:
        raise StudyError(f"must name an estimator, but got {estimator!r}", key="fisher.estimator", choices=ESTIMATORS)
    if labels == "exact" and estimator == "batch":
        raise StudyError(
            "must be random for estimator batch, whose cross terms vanish only on average, but got 'exact'",
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


# The hooks


class _Recorder:
    """Keeps (input, output) of each call of the Linears, and turns gradients of the outputs into squares."""

    def __init__(self, modules: Sequence[Sequence[nn.Linear]]) -> None:
        self._modules = [tuple(layer) for layer in modules]
        self._names = {
            id(linear): f"Linear {i} of layer {j}" for j, layer in enumerate(modules) for i, linear in enumerate(layer)
        }
        self._calls: dict[int, list[tuple[Tensor, Tensor, int]]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._check()

    def _check(self) -> None:
        if not all(self._modules):
            raise RunError("every layer must have at least one Linear to measure, but one has none", cause="code")
        linears = [linear for layer in self._modules for linear in layer]
        wrong = [type(linear).__name__ for linear in linears if not isinstance(linear, nn.Linear)]
        if wrong:
            raise RunError(f"only Linear modules can be measured, but got {', '.join(wrong)}", cause="code")
        tensors = [id(tensor) for linear in linears for tensor in linear.parameters()]
        if len(set(tensors)) != len(tensors):
            raise RunError("no two of the measured Linears may share a tensor, but two do", cause="code")

    def __enter__(self) -> Self:
        self._handles = [linear.register_forward_hook(self._keep) for layer in self._modules for linear in layer]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._calls.clear()

    def start(self) -> None:
        """Forget the last forward."""
        self._calls.clear()

    def _keep(self, linear: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept = output if output.requires_grad else output.detach().requires_grad_(True)
        self._calls.setdefault(id(linear), []).append((inputs[0].detach(), kept, kept._version))
        return kept

    def square(
        self, groups: list[Tensor], directions: Iterable[list[Tensor | None]], n: int, rows: int, estimator: str
    ) -> Tensor:
        """Sum over the directions of squared gradient norms, float64: (n, L) per example, (1, L) per batch."""
        self._check_calls(rows)
        outputs = [output for calls in self._calls.values() for _, output, _ in calls]
        total = torch.zeros(
            n if estimator == "per_example" else 1, len(self._modules), dtype=torch.float64, device=groups[0].device
        )
        reached: set[int] = set()
        for direction in directions:
            pairs = [(group, v.to(group)) for group, v in zip(groups, direction, strict=True) if v is not None]
            gradients = torch.autograd.grad(
                [group for group, _ in pairs], outputs, [v for _, v in pairs], retain_graph=True, allow_unused=True
            )
            by_output = {id(output): gradient for output, gradient in zip(outputs, gradients, strict=True)}
            for j, layer in enumerate(self._modules):
                for linear in layer:
                    # a Linear called more than once has one gradient, the sum over its calls: longer rows
                    calls = [(a, by_output[id(out)]) for a, out, _ in self._calls[id(linear)]]
                    pieces = [
                        (a.reshape(n, -1, a.shape[-1]), g.reshape(n, -1, g.shape[-1]))
                        for a, g in calls
                        if g is not None
                    ]
                    if pieces:
                        reached.add(id(linear))
                        a_btd, g_btd = (torch.cat(side, dim=1) for side in zip(*pieces, strict=True))
                        total[:, j] += _squared_norm(a_btd, g_btd, linear.bias is not None, estimator)
        self._check_reached(reached)
        return total

    def _check_calls(self, rows: int) -> None:
        for key, name in self._names.items():
            if key not in self._calls:
                raise RunError(f"{name} was not reached by the forward: is its adapter active?", cause="code")
            for a, output, version in self._calls[key]:
                if a.dim() < 2 or a.shape[0] != rows:
                    raise RunError(
                        f"{name} must see {rows} rows, one or more per example, but saw {tuple(a.shape)}", cause="code"
                    )
                if output._version != version:
                    raise RunError(f"{name} had its output changed in place: its gradient is lost", cause="code")

    def _check_reached(self, reached: set[int]) -> None:
        for key, name in self._names.items():
            if key not in reached:
                raise RunError(f"{name} ran, but no logit depends on it", cause="code")


def _squared_norm(a_btd: Tensor, g_btd: Tensor, bias: bool, estimator: str) -> Tensor:
    """Squared norm of the gradient of a Linear; A (B, T, di), G (B, T, do) -> (B,), or (1,) for B * ||mean g||^2."""
    n, length, d_in = a_btd.shape
    d_out = g_btd.shape[-1]
    if estimator == "batch":
        a_btd, g_btd = a_btd.reshape(1, -1, d_in), g_btd.reshape(1, -1, d_out)
        squares = _explicit(a_btd, g_btd)
    elif length * (d_in + d_out) < d_in * d_out:
        squares = _ghost(a_btd, g_btd)
    else:
        squares = _explicit(a_btd, g_btd)
    if bias:
        squares = squares + _norm(g_btd.sum(dim=1), 1)
    return squares / n if estimator == "batch" else squares


def _norm(tensor: Tensor, *dims: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=dims, dtype=torch.float64)
    return norm.square()


def _explicit(a_btd: Tensor, g_btd: Tensor) -> Tensor:
    """||G_b^T A_b||^2 by making the (do, di) gradient: 2*B*T*di*do operations."""
    return _norm(torch.bmm(g_btd.transpose(1, 2), a_btd), 1, 2)


def _ghost(a_btd: Tensor, g_btd: Tensor) -> Tensor:
    """The same as sum((A A^T) * (G G^T)), without the gradient: 2*B*T^2*(di+do) operations."""
    products = torch.bmm(a_btd, a_btd.transpose(1, 2)).double() * torch.bmm(g_btd, g_btd.transpose(1, 2)).double()
    return products.sum(dim=(1, 2))


@contextlib.contextmanager
def _undisturbed(model: nn.Module, modules: Sequence[Sequence[nn.Linear]]) -> Iterator[None]:
    """Evaluation mode, float32, gradients on; afterwards every mode and the global generators are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    device = next((linear.weight.device for layer in modules for linear in layer), torch.device("cpu"))
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
