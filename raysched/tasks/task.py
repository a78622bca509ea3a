"""What a task is: what is learned, from which rows, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from torch import Tensor, nn

from raysched.study.model import Study, TestSet
from raysched.tasks.predictions import Prediction

Role = Literal["train", "eval"]
Row = dict[str, Any]
Logits = Sequence[tuple[NDArray[Any], ...]]
"""Per feature one array per logit group: (T,) for a position in the text, (C,) for a class."""


class TaskFeatures(Protocol):
    """N tokenised examples or windows, made once and memory-mapped."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[Any]:
        """(N,) tokens of each, special tokens included; of the longest text where an example has several."""


class Task(Protocol):
    """Holds settings only, no model and no data. B features of a batch, T tokens, H hidden values."""

    metrics: tuple[str, ...]
    """Names of the scores, 0 to 100, higher is better; the first one is the customary objective."""
    form: str
    """Form of its rows: `qa`, `choice` or `nli` (`tasks.forms`)."""
    rows_per_example: int
    """So many consecutive rows of the model's batch make one example: the choices of a question."""

    def __init__(self, study: Study) -> None: ...

    def features_key(self, source: dict[str, Any], role: Role, tokenizer_digest: str) -> str:
        """Name of the cached features; `source` is `sources.identity(...)` of the rows."""

    def features(self, rows: Sequence[Row], tokenizer: Any, role: Role) -> Any:
        """`TaskFeatures` of the rows, by a fast Hugging Face tokenizer."""

    def load_features(self, folder: Any, key: str, make: Any) -> Any:
        """The features stored under `key` below `folder`; made by `make()`, and stored, where there are none."""

    def batch(self, features: Any, indices: Sequence[int] | NDArray[Any]) -> dict[str, Tensor]:
        """int64 tensors: `input_ids`, `attention_mask` (B * rows_per_example, T), perhaps `token_type_ids`, and what
        `targets` reads."""

    def head(
        self, *, hidden_size: int, model_type: str, pooler: Mapping[str, Tensor] | None, dropout: float
    ) -> nn.Module:
        """A new head, drawn from torch's global generator; what of it is frozen lies in buffers.

        `pooler` is the backbone's own (`weight` (H, H), `bias` (H,)), None where its checkpoint has none.
        """

    def groups(self, head: nn.Module, hidden: Tensor, batch: dict[str, Tensor]) -> list[Tensor]:
        """Hidden states (B * rows_per_example, T, H) to logit groups, each (B, C), in float32 or better."""

    def targets(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """True classes of each group, each (B,)."""

    def loss(self, groups: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """The mean loss of a batch, a scalar."""

    def predict(
        self, rows: Sequence[Row], features: Any, logits: Logits, language: str, rules: TestSet | None
    ) -> list[Prediction]:
        """One scored prediction per row, in order. `rules` say how answers are compared; None on source dev."""

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Means over the predictions, by the names in `metrics`, 0 to 100."""
