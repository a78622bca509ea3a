"""Measurements of the Fisher trace tr(F): the one that steers FUN, and the one that is only logged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from raysched.study.inputs import Strict
from raysched.study.values import Labels, refused


class FisherSelect(Strict):
    """The measurement that steers FUN (equation 1 of the paper; 40 batches, footnote 11)."""

    batches: int = Field(default=40, ge=1, description="training batches per measurement")
    batch_size: int | None = Field(default=None, ge=1, description="the training batch size when null")
    labels: Labels = Field(
        default="auto", description="how E over y ~ p(y|x) is taken; auto: exact up to 3 classes, else noise"
    )
    estimator: Literal["per_example", "batch"] = Field(default="per_example", description="per_example is equation 1")
    preset: Literal["eq1", "released"] = Field(
        default="eq1", description="released: as the authors' code measured, instead of equation 1; sets all the others"
    )
    draws: int = Field(default=1, ge=1, description="labels drawn per example, for noise and sampled")
    adaptive: bool = Field(default=False, description="stop measuring once the best frozen layer is clear (3 SE)")

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

    @model_validator(mode="after")
    def _what_a_preset_says(self) -> FisherSelect:
        for key in ("batches", "batch_size", "labels", "estimator", "draws", "adaptive"):
            given, default = getattr(self, key), type(self).model_fields[key].default
            if self.preset == "released" and given != default:
                raise refused(
                    f"must not be given beside preset: released, which sets it, but got {given}",
                    key=key,
                    choices=[default],
                    hint=f"leave {key} out or at its default, or take preset: eq1",
                )
        if self.draws > 1 and self.labels in ("exact", "mode", "true"):
            raise refused(
                f"must be 1 for labels {self.labels}, which are not drawn, but got {self.draws}",
                key="draws",
                choices=(1,),
                hint="take labels: noise, or leave draws out",
            )
        return self


class FisherLog(FisherSelect):
    """The measurement that is only logged, and changes no result."""

    every_steps: int = Field(default=100, ge=0, description="steps between measurements; 0 switches them off")
    batches: int = Field(default=2, ge=1, description="training batches per measurement")
    labels: Labels = Field(default="noise", description="how E over y ~ p(y|x) is taken")

    @model_validator(mode="after")
    def _nothing_to_choose(self) -> FisherLog:
        if self.adaptive:
            raise refused(
                "must be false where a measurement is only logged, but got true",
                key="adaptive",
                choices=("false",),
                hint="fisher.select.adaptive stops the measurement that chooses a layer",
            )
        return self


class Fisher(Strict):
    """Measurements of the Fisher trace tr(F) of each layer's task adapter."""

    select: FisherSelect = FisherSelect()
    log: FisherLog = FisherLog()
