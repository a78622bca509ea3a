"""What a study works on: data, backbone, language adapters and the adapter that is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from raysched.study.values import Language, Name, refused


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know and values of the wrong type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Strict):
    """Where rows come from, and how they are cut into features."""

    train: Name = Field(description="training rows: `mini`, a hub name (owner/name) or a local file")
    dev: Name = Field(description="source-language dev rows, the only ones that steer: like train")
    test: Name = Field(description="test rows: `mini`, a hub name, or a local file with {language} in its name")
    folder: Name | None = Field(
        default=None, description="a local folder to look the published files up in, instead of the hub"
    )
    train_examples: int | None = Field(default=None, ge=1, description="train on so many examples; all when null")
    subset: Literal["random", "first_n"] = Field(default="random", description="which ones, if not all")
    max_length: int = Field(default=384, ge=16, le=8192, description="tokens of a feature, both texts included")
    doc_stride: int = Field(
        default=128, ge=1, description="qa: tokens that neighbouring features of a long context share"
    )
    qa_padding: Literal["max", "dynamic_masked"] = Field(
        default="max", description="max as in the paper; dynamic_masked is faster and masks the logits of padding"
    )


class TaskAdapter(Strict):
    """The adapter that is trained, in every layer: MAD-X's bottleneck (Pfeiffer et al. 2020) or a variant of it."""

    kind: Literal["bottleneck", "lora"] = Field(
        default="bottleneck", description="bottleneck: two layers and a non-linearity; lora: low-rank attention weights"
    )
    placement: Literal["pfeiffer", "houlsby", "parallel"] = Field(
        default="pfeiffer",
        description="of a bottleneck: after the feed-forward block, after attention too (houlsby), or beside attention",
    )
    reduction: int = Field(default=16, ge=1, description="hidden size divided by the size of the bottleneck")
    activation: Literal["relu", "gelu", "swish"] = Field(default="relu", description="non-linearity of the bottleneck")
    rank: int = Field(default=8, ge=1, description="rank of lora's matrices, beside query and value")
    alpha: int = Field(default=8, ge=1, description="lora's output is scaled by alpha / rank")


class LanguageAdapterConfig(Strict):
    """What every language adapter must be; one that was made otherwise is refused when it is loaded."""

    placement: Literal["pfeiffer"] = Field(default="pfeiffer", description="after the feed-forward block of each layer")
    reduction: int = Field(default=2, ge=1, description="hidden size divided by the size of the bottleneck")
    invertible: bool = Field(default=True, description="with an invertible adapter at the embeddings")


class Model(Strict):
    """Backbone (frozen), language adapters (frozen) and the task adapter (trained)."""

    backbone: Name = Field(description="`mini`, a hub name (owner/name) or a local folder")
    language_adapters: Name = Field(description="`mini`, or a hub name or local folder with {language} in it")
    language_adapter_overrides: dict[Language, Name] = Field(
        default={}, description="language: hub name or local folder, where one language's adapter lies elsewhere"
    )
    language_adapter_config: LanguageAdapterConfig = LanguageAdapterConfig()
    source_language: Language = Field(description="the language trained on; the others are only tested")
    task_adapter: TaskAdapter = TaskAdapter()

    @model_validator(mode="after")
    def _one_adapter_a_language(self) -> Model:
        if self.language_adapters != "mini" and "{language}" not in self.language_adapters:
            raise refused(
                f"must be mini or contain {{language}}, but got {self.language_adapters!r}",
                key="language_adapters",
                choices=("mini", "AdapterHub/xlm-roberta-base-{language}-wiki_pfeiffer", "folder/{language}"),
                hint="write {language} where the name of the language stands",
            )
        return self
