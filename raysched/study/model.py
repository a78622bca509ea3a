"""The study: one typed, frozen, strict value that a file in `search_spaces/` becomes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raysched.study.fisher import Fisher
from raysched.study.inputs import Data, Model, Strict
from raysched.study.search import Search
from raysched.study.values import (
    MLQA_LANGUAGES,
    ChineseMetric,
    Gpu,
    Language,
    Name,
    Scoring,
    Seeds,
    TaskName,
    form,
    metrics,
    no_repeats,
    refused,
)

MAIN = "test"
"""Name of the test set that `data.test` and `evaluation.languages` make; others are named in `evaluation.also`."""


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
    surgical: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="the only layers that schedule surgical trains (Lee et al. 2022)"
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
        for key in ("permutation", "surgical"):
            no_repeats(key, getattr(self, key) or ())
        return self


class Budget(Strict):
    """When to stop, and how often to try."""

    hours: float | None = Field(
        default=None,
        gt=0,
        description="launch no run after so many hours, stop with exit code 75; the same command continues",
    )
    attempts: int = Field(default=3, ge=1, le=100, description="attempts a run gets before it counts as failed")
    hang_s: float | None = Field(
        default=1800,
        gt=0,
        description="an attempt that says nothing for so many seconds is killed and tried again; null: never. A worker "
        "speaks after every event of its training, so this must be longer than one evaluation of the dev set, or of "
        "one test language, takes; five times the median silence, and a minute before the first step, are always "
        "allowed",
    )


class Resources(Strict):
    """What one run takes of the cluster."""

    cpu: float = Field(default=1, gt=0, description="CPU cores")
    gpu: Gpu = Field(
        default="auto", description="auto (a GPU where there is one), or a number, whole or a fraction up to 1"
    )
    memory_gb: float | None = Field(default=None, gt=0, description="main memory in GB; not reserved when null")


SetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")]


class TestSet(Strict):
    """Rows that a run's selected checkpoint is tested on, and how answers are compared."""

    test: Name = Field(description="test rows: `mini`, a hub name, or a local file with {language} in its name")
    languages: tuple[Language, ...] = Field(min_length=1, description="tested languages; the source may be among them")
    scoring: Scoring = Field(default="squad", description="answers normalised as by SQuAD, or per language as by MLQA")
    chinese_metric: ChineseMetric | None = Field(
        default=None,
        description="Chinese answers split into words by white space (squad), as by MLQA, or into characters",
    )

    @model_validator(mode="after")
    def _each_once(self) -> TestSet:
        no_repeats("languages", self.languages)
        return self


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
    scoring: Scoring = Field(default="squad", description="answers normalised as by SQuAD, or per language as by MLQA")
    chinese_metric: ChineseMetric | None = Field(
        default=None,
        description="Chinese answers split into words by white space (squad), as by MLQA, or into characters",
    )
    candidates: int = Field(
        default=5,
        ge=0,
        description="adapters of the last so many source-dev evaluations that are kept, for averages and the oracle; "
        "0 keeps none",
    )
    also: dict[SetName, TestSet] = Field(
        default={}, description="further test sets of the same runs, by name; adding one to a sweep retrains nothing"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Evaluation:
        no_repeats("languages", self.languages)
        if MAIN in self.also:
            raise refused(
                f"must not be named {MAIN}, as data.test is, but got {MAIN}", key="also", hint="choose another name"
            )
        return self


class Tracking(Strict):
    """What is recorded; where it goes is said on the command line (`--mlflow`), never here."""

    log_every_steps: int = Field(default=10, ge=1, description="training metrics are recorded every so many steps")


class Study(Strict):
    """What is learned, on which data and model, what is searched, and what it may take."""

    description: str = Field(default="", max_length=2000, description="one line about this study")
    task: TaskName = Field(
        description="qa: extractive question answering (F1, exact match); choice: which of two; nli: inference"
    )
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
        objectives = [f"source_dev/{metric}" for metric in metrics(self.task)]
        if self.search.objective not in objectives:
            raise refused(
                f"must be a source-dev score of task {self.task}, but got {self.search.objective!r}",
                key="search.objective",
                choices=objectives,
                hint="targets are tested after training, and reported",
            )
        if form(self.task) == "qa" and self.data.doc_stride >= self.data.max_length:
            raise refused(
                "doc_stride < max_length must hold, but got "
                f"doc_stride={self.data.doc_stride}, max_length={self.data.max_length}",
                key="data.doc_stride",
                choices=[f"1 ... {self.data.max_length - 1}"],
                hint="make data.doc_stride smaller (a third of data.max_length is customary)",
            )
        for schedule, given, choices, hint in (
            (
                "permutation",
                self.training.permutation,
                "a list of layers, 0 nearest the embeddings",
                "for 12 layers, the top one awake: permutation: [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]",
            ),
            (
                "surgical",
                self.training.surgical,
                "a list of layers, 0 nearest the embeddings",
                "the lowest three, for example: surgical: [0, 1, 2]",
            ),
            ("replay", self.training.replay, "a path", "an unfreeze_order.json is among the artifacts of every run"),
        ):
            if given is None and schedule in self.schedules:
                raise refused(
                    f"must be given for schedule {schedule}, but got none",
                    key=f"training.{schedule}",
                    choices=[choices],
                    hint=hint,
                )
        return self

    @model_validator(mode="after")
    def _answers_can_be_compared(self) -> Study:
        for name, test_set in self.test_sets.items():
            section = "evaluation" if name == MAIN else f"evaluation.also.{name}"
            if form(self.task) != "qa":
                for key in ("scoring", "chinese_metric"):
                    given, default = getattr(test_set, key), TestSet.model_fields[key].default
                    if given != default:
                        raise refused(
                            f"compares answers, and task {self.task} has none, but got {given}",
                            key=f"{section}.{key}",
                            choices=[default or "null"],
                            hint="leave it out",
                        )
            without = [language for language in test_set.languages if language not in MLQA_LANGUAGES]
            if test_set.scoring == "mlqa" and without:
                raise refused(
                    f"must be squad for languages that MLQA has no rules for, but got mlqa with {', '.join(without)}",
                    key=f"{section}.scoring",
                    choices=("squad", f"mlqa with {', '.join(MLQA_LANGUAGES)}"),
                    hint="make two test sets of them, the second one in evaluation.also",
                )
        return self

    @model_validator(mode="after")
    def _arms_say_only_another_length(self) -> Study:
        """One way to write a run: with training's own length it would be another point, but the same run."""
        for position, arm in enumerate(self.search.arms):
            for key in ("epochs", "steps"):
                given = getattr(arm, key)
                if given is not None and given == getattr(self.training, key):
                    raise refused(
                        f"must be another length than training.{key}, but got {given} for both",
                        key=f"search.arms.{position}.{key}",
                        choices=[f"any other number of {key}", "null"],
                        hint="leave it out: an arm has training's length unless it says otherwise",
                    )
        return self

    @property
    def schedules(self) -> tuple[str, ...]:
        """Every schedule of the search, arms included."""
        return tuple(dict.fromkeys((*self.search.schedule, *(arm.schedule for arm in self.search.arms))))

    @property
    def test_sets(self) -> dict[str, TestSet]:
        """By name: `MAIN`, and those of `evaluation.also`."""
        rules = {name: getattr(self.evaluation, name) for name in ("languages", "scoring", "chinese_metric")}
        return {MAIN: TestSet(test=self.data.test, **rules), **self.evaluation.also}

    @property
    def languages(self) -> tuple[str, ...]:
        """The source language and every tested one."""
        tested = (language for test_set in self.test_sets.values() for language in test_set.languages)
        return tuple(dict.fromkeys((self.model.source_language, *tested)))

    @property
    def uses_adapters(self) -> bool:
        """Whether any point trains a task adapter: full fine-tuning needs no language adapters."""
        return "adapters" in (
            *(self.search.method if self.search.schedule else ()),
            *(a.method for a in self.search.arms),
        )
