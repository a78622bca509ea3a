"""One run's training: a generator of events. It imports no tracker, no Ray, and writes no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from raysched.errors import Diverged
from raysched.study.identity import RunSpec
from raysched.tasks.predictions import Prediction
from raysched.training.bench import Bench
from raysched.training.evaluate import evaluate
from raysched.training.events import (
    CheckpointDue,
    Evaluated,
    Finished,
    FisherMeasured,
    StepDone,
    Tested,
    TrainingEvent,
    Unfroze,
)
from raysched.training.measuring import Purpose, measuring
from raysched.training.schedules import schedule_config
from raysched.training.seeding import generator, global_rng, stream
from raysched.training.timetable import dev_steps, total_steps
from raysched.unfreezing import fisher
from raysched.unfreezing.layers import TrainableLayers
from raysched.unfreezing.schedule import Event as ScheduleEvent
from raysched.unfreezing.schedule import Unfreezing

_ORDER = ("step", "log", "evaluate", "checkpoint", "select", "unfreeze")
"""What may be told between two optimizer steps, in order."""


@dataclass(slots=True)
class State:
    """All of a run beside its tensors. Random numbers need no state: every draw is derived from (seed, step).

    A run may be left at any event: `told` is the last one (of `_ORDER`) that was yielded since `step` was completed.
    """

    step: int = 0
    told: str = "step"
    log: tuple[ScheduleEvent, ...] = ()
    best_step: int = 0
    best_scores: dict[str, float] = field(default_factory=dict)


class TrainingRun:
    """One run on a bench: `events()` trains it to the end; between events its state can be saved."""

    def __init__(self, bench: Bench, spec: RunSpec) -> None:
        study = spec.study
        self.bench, self.spec, self.study = bench, spec, study
        bench.start(spec)
        self.model, self.task = bench.model, bench.task
        length = (study.training.epochs, study.training.steps)
        if spec.point.epochs is not None or spec.point.steps is not None:
            length = (spec.point.epochs, spec.point.steps)
        self.total, self.per_epoch = total_steps(
            len(bench.train), study.training.batch_size, epochs=length[0], steps=length[1]
        )
        self.parameters = self.model.trainable()
        self.layers = TrainableLayers(self.model.layer_parameters(), list(self.model.head.parameters()))
        # One optimizer over the head and every layer for the whole run: frozen parameters have no gradient
        # and are passed over, and none can be forgotten when its layer wakes.
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=spec.point.lr, weight_decay=study.training.weight_decay, fused=True
        )
        self.config = schedule_config(
            study, bench.resolved, spec.point, self.model.n_layers, stream(spec.seed, "schedule"), self.total
        )
        self.schedule = Unfreezing(self.config)
        self.state = State()
        self.finite = torch.ones((), dtype=torch.bool, device=self.model.device)
        self.best_tensors: dict[str, Tensor] = {}
        self.candidates: dict[int, dict[str, Tensor]] = {}
        """Step -> tensors of the last evaluations, for averages and the oracle; nothing of the run looks at them."""
        self._epoch: tuple[int, Tensor] | None = None  # its number and the order of its features

    # -- state ------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trained tensors. Raises Diverged: nothing of a run that has diverged is ever kept."""
        self.check_finite(self.state.step)
        return self.model.task_state()

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state as `<parameter>/<key>`; parameters that never had a gradient have none."""
        return {
            f"{name}/{key}": value.detach().to("cpu", copy=True)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def restore(
        self,
        state: State,
        weights: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        best: Mapping[str, Tensor],
        candidates: Mapping[int, Mapping[str, Tensor]],
    ) -> None:
        """Continue exactly where `state` was saved.

        Raises:
            ValueError: the tensors are not this model's.
        """
        self.model.load_task_state(weights)
        for name, parameter in self.parameters.items():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}/{key}" in optimizer]
            if keys:
                self.optimizer.state[parameter] = {
                    key: optimizer[f"{name}/{key}"].to(parameter.device, copy=True) for key in keys
                }
        self.state = state
        self.schedule = Unfreezing(self.config, state.log)
        self.best_tensors = dict(best)
        self.candidates = {step: dict(tensors) for step, tensors in sorted(candidates.items())}

    # -- training ---------------------------------------------------------------------------------------------

    def events(self) -> Iterator[TrainingEvent]:
        """Train from the current state to the last step, ending with `CheckpointDue` at that step.

        Raises:
            Diverged: the loss or a gradient is not finite.
        """
        training, model, state = self.study.training, self.model, self.state
        model.train()
        self.layers.apply(self.schedule.awake())
        if state.step == 0:
            awake = tuple(sorted(self.schedule.awake()))
            yield Unfroze(step=0, event=0, layers=awake, awake=awake)
        dev = dev_steps(self.total, self.schedule.last_event_step(self.total), self.study.evaluation.dev_points)
        log = self.study.fisher.log
        while True:
            step = state.step
            if step and log.every_steps and step % log.every_steps == 0 and self._next("log"):
                yield self._measure(step, "log")
            if step in dev and self._next("evaluate"):
                yield self._evaluate(step)
            due = step and (step % training.checkpoint_every_steps == 0 or step == self.total)
            if due and self._next("checkpoint"):
                yield CheckpointDue(step=step)
            if step == self.total:
                return
            yield from self._unfreeze(step + 1)
            metrics = self._step(step + 1)
            state.step, state.told = step + 1, "step"
            yield StepDone(step=step + 1, total=self.total, metrics=metrics)

    def _next(self, event: str) -> bool:
        """Whether `event` was not told yet at this step; from now on it was."""
        if _ORDER.index(self.state.told) >= _ORDER.index(event):
            return False
        self.state.told = event
        return True

    def _unfreeze(self, step: int) -> Iterator[TrainingEvent]:
        """The schedule's event before the forward of `step`, if one is due (1-based; method table 2.1)."""
        if self.schedule.due(step) is not None:
            measured = self._measure(step - 1, "select") if self.schedule.needs_traces(step) else None
            self.schedule.fire(step, *((measured.traces, measured.se) if measured is not None else ()))
            self.state.log = self.schedule.log
            self.layers.apply(self.schedule.awake())
            if measured is not None and self._next("select"):
                yield measured
        # Fired just now, or by an attempt that was left before it could tell.
        if self.state.log and self.state.log[-1].step == step and self._next("unfreeze"):
            event, awake = self.state.log[-1], tuple(sorted(self.schedule.awake()))
            yield Unfroze(step=step - 1, event=event.event, layers=event.layers, awake=awake)

    def _step(self, step: int) -> dict[str, float]:
        training = self.study.training
        epoch, index = divmod(step - 1, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._order("data", epoch)
        batch = self._batch(self._epoch[1], index, training.batch_size)
        lr = self._lr(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        autocast = torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=training.precision == "bf16")
        with global_rng(stream(self.spec.seed, "dropout", step), self.model.device), autocast:
            loss = self.task.loss(self._logits(batch), self.task.targets(batch))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), training.max_grad_norm)
        # Looking at a number waits for the device, so a bad one is remembered there until something looks.
        self.finite &= torch.isfinite(loss.detach()) & torch.isfinite(norm)
        due = step % self.study.tracking.log_every_steps == 0 or step == self.total
        if due:
            self.check_finite(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # a zeroed gradient would decay a frozen parameter's momentum
        return {"train/loss": float(loss.detach()), "train/lr": lr, "train/grad_norm": float(norm)} if due else {}

    def check_finite(self, step: int) -> None:
        """Raises Diverged if any loss or gradient so far was not finite: whenever something looks, it is found."""
        if not self.finite:
            raise Diverged(f"the loss or gradient is not finite by step {step} of {self.spec.point}")

    def _lr(self, step: int) -> float:
        lr = self.spec.point.lr
        return lr if self.study.training.lr_schedule == "constant" else lr * (1 - (step - 1) / self.total)

    def _order(self, name: str, key: int) -> Tensor:
        """A permutation of the training features from one position of a named stream."""
        return torch.randperm(len(self.bench.train), generator=generator(stream(self.spec.seed, name, key)))

    def _batch(self, order: Tensor, index: int, size: int) -> dict[str, Tensor]:
        indices = order[index * size : (index + 1) * size].numpy()
        batch = self.task.batch(self.bench.train, indices)
        return {name: value.to(self.model.device) for name, value in batch.items()}

    def _measure(self, step: int, purpose: Purpose) -> FisherMeasured:
        """tr(F) after `step` steps, on its own batches and generators: the next step is the same without it."""
        settings = self.study.fisher.select if purpose == "select" else self.study.fisher.log
        order = self._order("fisher", step)
        how = measuring(settings, purpose, batch_size=self.study.training.batch_size, n_features=len(order))
        measured = fisher.measure(
            forward=self._logits,
            batches=(self._batch(order, index, how.batch_size) for index in range(how.n_batches)),
            modules=self.model.measured_modules(),
            model=self.model,
            labels=how.labels,
            estimator=how.estimator,
            draws=how.draws,
            divisor=how.divisor,
            # A plug-in may look for another layer than that of the largest trace.
            contenders=self.schedule.frozen() if how.adaptive and self.config.name == "fun" else (),
            generator=generator(stream(self.spec.seed, "fisher", step, 1)),
            targets=self.task.targets,
            rows_per_example=self.task.rows_per_example,
            singly=self._singly,
        )
        return FisherMeasured(
            step=step,
            purpose=purpose,
            traces=measured.traces,
            se=measured.se,
            awake=tuple(sorted(self.schedule.awake())),
            n_batches=measured.n_batches,
            n_examples=measured.n_examples,
            labels=measured.labels,
            estimator=measured.estimator,
            scale=how.scale(measured.n_groups),
            lead=None if measured.lead is None else (measured.lead.difference, measured.lead.se),
        )

    def _singly(self, batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """The batch's examples as batches of one."""
        n = len(batch["input_ids"]) // self.task.rows_per_example
        for example in range(n):
            yield {name: value.unflatten(0, (n, -1))[example] for name, value in batch.items()}

    def _logits(self, batch: dict[str, Tensor]) -> list[Tensor]:
        hidden = self.model(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
        return self.task.groups(self.model.head, hidden, batch)

    def _evaluate(self, step: int) -> Evaluated:
        """Score source dev; the best step so far (the earliest of equals) and the last few keep their tensors."""
        language = self.study.model.source_language
        scores, _ = evaluate(self.bench, self.bench.dev, self.study.evaluation.batch_size)
        metric = self.study.search.objective.removeprefix("source_dev/")
        best = not self.state.best_scores or scores[metric] > self.state.best_scores[metric]
        n_kept = 0 if self.model.full else self.study.evaluation.candidates
        weights = self.weights() if best or n_kept else {}
        if best:
            self.state.best_step, self.state.best_scores = step, dict(scores)
            self.best_tensors = weights
        if n_kept:
            self.candidates[step] = weights
        while len(self.candidates) > n_kept:
            del self.candidates[min(self.candidates)]
        return Evaluated(step=step, language=language, scores=scores, best=best)

    # -- test -------------------------------------------------------------------------------------------------

    def test(
        self, keep: Callable[[str, str, list[Prediction]], Any], test_sets: Iterable[str]
    ) -> Iterator[TrainingEvent]:
        """Score the selected checkpoint on every language of the test sets, handing its predictions to `keep`.

        Only now are target languages looked at: nothing that steers has seen them (decision 3). Ends with `Finished`.
        """
        self.model.load_task_state(self.best_tensors)
        for name in test_sets:
            for language in self.study.test_sets[name].languages:
                scored = self.bench.test(language, name)
                scores, predictions = evaluate(self.bench, scored, self.study.evaluation.batch_size)
                keep(name, language, predictions)
                yield Tested(step=self.state.best_step, test_set=name, language=language, scores=scores)
        yield Finished(step=self.state.step, selected_step=self.state.best_step, source_dev=self.state.best_scores)
