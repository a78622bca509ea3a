"""The study: one typed, frozen, strict value that a file in `search_spaces/` becomes."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from raysched.study.values import (
    MOST_POINTS,
    OBJECTIVES,
    SCHEDULES,
    WITHOUT_K,
    Gpu,
    Interval,
    Labels,
    Language,
    Lr,
    Name,
    ScheduleName,
    Seeds,
    no_repeats,
    refused,
)

__all__ = ["SCHEDULES", "WITHOUT_K", "Strict", "Study"]


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
    max_length: int = Field(default=384, ge=16, le=8192, description="tokens of a feature, question included")
    doc_stride: int = Field(default=128, ge=1, description="tokens that neighbouring features of a long context share")
    qa_padding: Literal["max", "dynamic_masked"] = Field(
        default="max", description="max as in the paper; dynamic_masked is faster and masks the logits of padding"
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> Data:
        if self.doc_stride >= self.max_length:
            given = f"doc_stride={self.doc_stride}, max_length={self.max_length}"
            raise refused(
                f"doc_stride < max_length must hold, but got {given}",
                key="doc_stride",
                choices=[f"1 ... {self.max_length - 1}"],
                hint="make data.doc_stride smaller (a third of data.max_length is customary)",
            )
        return self


class TaskAdapter(Strict):
    """The adapter that is trained: one bottleneck per layer (MAD-X; Pfeiffer et al. 2020)."""

    placement: Literal["pfeiffer"] = Field(default="pfeiffer", description="after the feed-forward block of each layer")
    reduction: int = Field(default=16, ge=1, description="hidden size divided by the size of the bottleneck")
    activation: Literal["relu", "gelu", "swish"] = Field(default="relu", description="non-linearity of the bottleneck")


class LanguageAdapterConfig(Strict):
    """What every language adapter must be; one that was made otherwise is refused when it is loaded."""

    placement: Literal["pfeiffer"] = Field(default="pfeiffer", description="after the feed-forward block of each layer")
    reduction: int = Field(default=2, ge=1, description="hidden size divided by the size of the bottleneck")
    invertible: bool = Field(default=True, description="with an invertible adapter at the embeddings")


class Model(Strict):
    """Backbone (frozen), language adapters (frozen) and the task adapter (trained)."""

    backbone: Name = Field(description="`mini`, a hub name (owner/name) or a local folder")
    language_adapters: Name = Field(description="`mini`, or a hub name or local folder with {language} in it")
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


class Training(Strict):
    """One run's training, with AdamW and no warm-up. Exactly one of `epochs` and `steps`."""

    epochs: int | None = Field(default=None, ge=1, description="passes over the training features; give this or steps")
    steps: int | None = Field(default=None, ge=1, description="optimizer steps; give this or epochs")
    batch_size: int = Field(default=32, ge=1, description="features per optimizer step")
    lr_schedule: Literal["constant", "linear"] = Field(
        default="constant", description="linear falls to 0 at the last step"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="bf16: forward and backward under autocast")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="of the backbone; its own when null")
    threads: int = Field(default=1, ge=1, description="CPU threads of a run; part of its identity")
    gu_phase: Literal["reference", "prose"] = Field(
        default="reference", description="gu wakes its second layer at step 2k (reference) or k (prose)"
    )
    permutation: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        min_length=1,
        description="order in which schedule permutation wakes the layers; 0 is nearest the embeddings",
    )
    replay: Name | None = Field(default=None, description="the unfreeze_order.json that schedule replay repeats")
    checkpoint_every_steps: int = Field(default=500, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise refused(
                f"exactly one of epochs and steps must be given, but got epochs={self.epochs}, steps={self.steps}",
                key="steps" if self.epochs is None else "epochs",
                choices=("training.epochs alone", "training.steps alone"),
                hint="give one of them"
                if self.epochs is None
                else "--set training.epochs=null keeps the steps, --set training.steps=null the epochs",
            )
        if self.permutation is not None:
            no_repeats("permutation", self.permutation)
        return self


class Search(Strict):
    """What is searched: the product of schedule, lr and k (k only where the schedule uses it)."""

    schedule: tuple[ScheduleName, ...] = Field(min_length=1, description="unfreezing schedules to compare")
    lr: tuple[Lr, ...] = Field(min_length=1, description="learning rates")
    k: tuple[Interval, ...] = Field(
        default=(), description="unfreezing intervals in steps; standard and replay have none"
    )
    sampler: Literal["tpe", "random", "grid"] = Field(default="tpe", description="who chooses; grid takes every point")
    points: int | None = Field(
        default=None, ge=1, description="how many points tpe and random take (all when null); grid takes all"
    )
    seed: int = Field(default=0, ge=0, description="seed of the sampler")
    objective: Name = Field(
        default="source_dev/f1",
        description="source_dev/<metric>, maximised: only source-language dev scores steer",
        json_schema_extra={"enum": list(OBJECTIVES)},
    )

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        for key in ("schedule", "lr", "k"):
            no_repeats(key, getattr(self, key))
        needs = [schedule for schedule in self.schedule if schedule not in WITHOUT_K]
        if needs and not self.k:
            raise refused(
                f"must hold at least one interval for schedule {', '.join(needs)}, but got none",
                key="k",
                choices=["a list of whole numbers from 1"],
                hint=f"add k: [100] to search, or search only {' and '.join(sorted(WITHOUT_K))}, which have no k",
            )
        if self.objective not in OBJECTIVES:
            what = f"must be a source-language dev score, but got {self.objective!r}"
            if re.match(r"(test|target|oracle)\b", self.objective):
                what += "; target-language scores never steer a zero-shot search"
            raise refused(
                what, key="objective", choices=OBJECTIVES, hint="targets are tested after training, and reported"
            )
        n_points = len(self.lr) * (len(self.schedule) - len(needs) + len(needs) * len(self.k))
        if n_points > MOST_POINTS:
            raise refused(
                f"must hold at most {MOST_POINTS} points, but got {n_points}",
                hint="shorten search.lr, search.k or search.schedule",
            )
        return self


class Budget(Strict):
    """When to stop, and how often to try."""

    hours: float | None = Field(
        default=None,
        gt=0,
        description="launch no run after so many hours, stop with exit code 75; the same command continues",
    )
    attempts: int = Field(default=3, ge=1, le=100, description="attempts a run gets before it counts as failed")


class Resources(Strict):
    """What one run takes of the cluster."""

    cpu: float = Field(default=1, gt=0, description="CPU cores")
    gpu: Gpu = Field(
        default="auto", description="auto (a GPU where there is one), or a number, whole or a fraction up to 1"
    )
    memory_gb: float | None = Field(default=None, gt=0, description="main memory in GB; not reserved when null")


class FisherSelect(Strict):
    """The measurement that steers FUN (equation 1 of the paper; 40 batches, footnote 11)."""

    batches: int = Field(default=40, ge=1, description="training batches per measurement")
    batch_size: int | None = Field(default=None, ge=1, description="the training batch size when null")
    labels: Labels = Field(
        default="auto", description="how E over y ~ p(y|x) is taken; auto: exact up to 3 classes, else noise"
    )
    estimator: Literal["per_example", "batch"] = Field(default="per_example", description="per_example is equation 1")

    @model_validator(mode="after")
    def _no_cross_terms(self) -> FisherSelect:
        if self.estimator == "batch" and self.labels == "exact":
            raise refused(
                "must not be exact with estimator=batch (cross terms vanish for random labels only), but got exact",
                key="labels",
                choices=("auto", "noise", "sampled", "mode", "true"),
                hint="take labels: noise, or estimator: per_example",
            )
        return self


class FisherLog(FisherSelect):
    """The measurement that is only logged, and changes no result."""

    every_steps: int = Field(default=100, ge=0, description="steps between measurements; 0 switches them off")
    batches: int = Field(default=2, ge=1, description="training batches per measurement")
    labels: Labels = Field(default="noise", description="how E over y ~ p(y|x) is taken")


class Fisher(Strict):
    """Measurements of the Fisher trace tr(F) of each layer's task adapter."""

    select: FisherSelect = FisherSelect()
    log: FisherLog = FisherLog()


class Evaluation(Strict):
    """Source-dev evaluation during training, and the target languages of the selected checkpoint."""

    languages: tuple[Language, ...] = Field(min_length=1, description="tested languages; the source may be among them")
    dev_limit: int | None = Field(default=None, ge=1, description="score only the first so many dev questions")
    test_limit: int | None = Field(default=None, ge=1, description="the same for the test questions of each language")
    dev_points: int = Field(
        default=20, ge=1, description="source-dev evaluations per run, denser until the last unfreezing event"
    )
    batch_size: int = Field(default=64, ge=1, description="features per forward pass")
    n_best: int = Field(default=20, ge=1, description="start and end positions considered per feature")
    max_answer_length: int = Field(default=30, ge=1, description="tokens of the longest answer")

    @model_validator(mode="after")
    def _each_once(self) -> Evaluation:
        no_repeats("languages", self.languages)
        return self


class Tracking(Strict):
    """What is recorded; where it goes is said on the command line (`--mlflow`), never here."""

    log_every_steps: int = Field(default=10, ge=1, description="training metrics are recorded every so many steps")


class Study(Strict):
    """What is learned, on which data and model, what is searched, and what it may take."""

    description: str = Field(default="", max_length=2000, description="one line about this study")
    task: Literal["qa"] = Field(description="qa: extractive question answering, scored by F1 and exact match")
    data: Data
    model: Model
    training: Training
    search: Search
    seeds: Seeds = Field(description="replicates of every point: a list, or n for 0 ... n-1")
    budget: Budget = Budget()
    resources: Resources = Resources()
    fisher: Fisher = Fisher()
    evaluation: Evaluation
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        no_repeats("seeds", self.seeds)
        if "permutation" in self.search.schedule and self.training.permutation is None:
            raise refused(
                "must be given for schedule permutation, but got none",
                key="training.permutation",
                choices=["a list of layers, 0 nearest the embeddings"],
                hint="for 12 layers, the top one awake: permutation: [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]",
            )
        if "replay" in self.search.schedule and self.training.replay is None:
            raise refused(
                "must name an unfreeze_order.json for schedule replay, but got none",
                key="training.replay",
                choices=["a path"],
                hint="an unfreeze_order.json is among the artifacts of every run",
            )
        return self
