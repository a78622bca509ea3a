"""A MAD-X language adapter trained on plain text by masked-language modelling (section 5 of the FUN paper, App. F.3).

The backbone and its head are frozen; the adapter's bottlenecks and its invertible part learn, the inverse of the latter
standing before the vocabulary as in MAD-X. `LanguageTraining` is made of settings and text; `events` trains, evaluates
on held-out text and saves snapshots until a limit is reached. A training that was stopped anywhere continues from its
newest snapshot and is then, on CPU, bit for bit the one that was never stopped: every batch, mask and dropout is drawn
from a named stream at the position of its step.

    DIR/<language>/
        adapter_config.json, adapter.safetensors    AdapterHub layout: the adapter with the least held-out loss
        training.json                               how it was made, and the losses
        .training/                                  settings.json, text.safetensors, step-…: what continues it
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from raysched.errors import Diverged
from raysched.madx.quiet import quiet
from raysched.records import files
from raysched.training import snapshots
from raysched.training.language_settings import Limits, Settings, State
from raysched.training.mlm import MaskedRow, add_language_adapter, collate, mlm_head, mlm_loss, save_language_adapter
from raysched.training.plain_text import Blocks
from raysched.training.seeding import generator, global_rng, stream

WORK, ABOUT = ".training", "training.json"
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One optimizer step is completed."""

    step: int
    loss: float
    tokens: int
    """Of its batch, special ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The held-out text was scored, and a snapshot saved."""

    step: int
    loss: float
    best: bool
    without_adapter: float


class LanguageTraining:
    """One training, at its newest snapshot or at its beginning."""

    def __init__(self, settings: Settings, model: PreTrainedModel, train: Blocks, held_out: Blocks, work: Path) -> None:
        """`model` is a masked language model on the device to train on; it gets the adapter here.

        Raises:
            DamageError: the newest snapshot is of another model.
        """
        self.settings, self.model, self.train, self.work = settings, model, train, work
        model.config.name_or_path = settings.backbone.where  # goes into the adapter's configuration
        with quiet():
            add_language_adapter(model, settings.language, seed=settings.seed, reduction_factor=settings.reduction)
        base: Any = model.base_model
        decoder: Any = model.get_output_embeddings()
        decoder.register_forward_pre_hook(self._inverted)
        if settings.train_head:
            own = {id(parameter) for parameter in base.parameters()}  # a tied decoder stays as it is
            for parameter in mlm_head(model).parameters():
                parameter.requires_grad_(id(parameter) not in own)
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(list(self.parameters.values()), lr=settings.lr, weight_decay=0.0)
        self.state = State(per_epoch=math.ceil(len(train) / settings.batch_size))
        self.best: dict[str, Tensor] = {}
        seeds = [stream(settings.seed, "subset", index) for index in range(len(held_out))]
        self._held_out = [held_out.masked(index, seed) for index, seed in enumerate(seeds)]
        self._epoch: tuple[int, list[int]] | None = None
        found = snapshots.newest(work)
        if found is not None:
            self._restore(found[0], load_file(found[1]))

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def _inverted(self, decoder: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """What the decoder scores, (n, H), through the inverse of the invertible adapter, as in MAD-X.

        adapters 1.3.0 leaves it out of models that have their own head; AdapterHub's adapters were trained with it.
        """
        base: Any = self.model.base_model
        inverted: Tensor = base.invertible_adapters_forward(inputs[0][None], rev=True)[0]  # it takes (B, T, H) only
        return inverted

    def events(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> Iterator[Trained | Evaluated]:
        """Train until a limit is reached. Whoever stops listening calls `save` and loses no step.

        Raises:
            Diverged: the loss is not a finite number.
        """
        before = clock()
        while True:
            done = limits.reached(self.state) is not None
            scored = self.state.evaluations[-1]["step"] if self.state.evaluations else -1
            if scored < self.state.step and (done or self.state.step % self.settings.every == 0):
                yield self._evaluated()
            if done:
                return
            trained = self._step()
            now = clock()
            self.state.seconds, before = self.state.seconds + now - before, now
            yield trained

    def _step(self) -> Trained:
        settings, state = self.settings, self.state
        step = state.step + 1
        rows = self._rows(step)
        self.model.train()
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16")
        with global_rng(stream(settings.seed, "dropout", step), self.device), autocast:
            loss = mlm_loss(self.model, collate(rows, pad_id=self._pad, device=self.device))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), MAX_GRAD_NORM)
        value = loss.item()
        if not math.isfinite(value) or not math.isfinite(norm.item()):
            raise Diverged(f"the loss or gradient is not finite at step {step}; a smaller --lr may help")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(row.input_ids) for row in rows)
        state.step, state.tokens = step, state.tokens + tokens
        state.since.append(value)
        return Trained(step=step, loss=value, tokens=tokens)

    def _rows(self, step: int) -> list[MaskedRow]:
        """The batch of a step: each epoch has an order and masks of its own."""
        epoch, index = divmod(step - 1, self.state.per_epoch)
        seed, size = self.settings.seed, self.settings.batch_size
        if self._epoch is None or self._epoch[0] != epoch:
            order = torch.randperm(len(self.train), generator=generator(stream(seed, "data", epoch)))
            self._epoch = epoch, order.tolist()
        chosen = self._epoch[1][index * size : (index + 1) * size]
        return [self.train.masked(block, stream(seed, "data", epoch, block)) for block in chosen]

    @property
    def _pad(self) -> int:
        return int(self.model.config.pad_token_id or 0)

    # -- evaluation -------------------------------------------------------------------------------------------

    def _evaluated(self) -> Evaluated:
        state = self.state
        if state.step == 0:
            state.without_adapter = self._loss_without()
        loss = self._held_out_loss()
        if not math.isfinite(loss):
            raise Diverged(f"the held-out loss is not finite at step {state.step}; a smaller --lr may help")
        train = sum(state.since) / len(state.since) if state.since else None
        best = state.step > 0 and loss < state.best_loss
        state.evaluations.append({"step": state.step, "held_out": loss, "train": train})
        state.since = []
        if best:
            state.best_step, self.best = state.step, self._weights()
        self.save()
        return Evaluated(step=state.step, loss=loss, best=best, without_adapter=state.without_adapter)

    def _loss_without(self) -> float:
        adaptable: Any = self.model
        with quiet():
            adaptable.set_active_adapters(None)
            try:
                return self._held_out_loss()
            finally:
                adaptable.set_active_adapters(self.settings.language)

    @torch.inference_mode()
    def _held_out_loss(self) -> float:
        """Mean cross-entropy in nats over the held-out blocks' masked tokens, which are the same every time."""
        self.model.eval()
        size, total, n = self.settings.batch_size, 0.0, 0
        for start in range(0, len(self._held_out), size):
            rows = self._held_out[start : start + size]
            batch = collate(rows, pad_id=self._pad, device=self.device)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.precision == "bf16"):
                total += mlm_loss(self.model, batch, reduction="sum").item()
            n += sum(len(row.positions) for row in rows)
        return total / n

    # -- snapshots --------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().to("cpu", copy=True) for name, value in self.parameters.items()}

    def save(self) -> None:
        """Write a snapshot of the current step."""
        tensors = {f"now/{name}": value for name, value in self._weights().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.detach().to("cpu", copy=True)
        snapshots.save(self.work, self.state.step, dataclasses.asdict(self.state), tensors)

    def _restore(self, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.state = State.read(state)
        for name, parameter in self.parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[f"now/{name}"])
            if self.state.step:
                self.optimizer.state[parameter] = {
                    "step": tensors[f"step/{name}"],
                    "exp_avg": tensors[f"exp_avg/{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(parameter.device),
                }
        self.best = {name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")}

    def finish(self, to: Path, about: dict[str, Any]) -> None:
        """Write the adapter with the least held-out loss and training.json below `to`, each whole or as it was."""
        last = self._weights()
        beside = self.work / "adapter"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            self._put(self.best)
            with quiet():
                save_language_adapter(self.model, self.settings.language, beside)
        finally:
            self._put(last)
        for path in sorted(beside.iterdir()):
            files.sync_file(path)
            os.replace(path, to / path.name)
        beside.rmdir()
        state = self.state
        losses = {
            "without_adapter": state.without_adapter,
            "before": state.evaluations[0]["held_out"],
            "best": state.best_loss,
            "last": state.evaluations[-1]["held_out"],
        }
        about = {
            "steps": state.step,
            "epochs": state.step / state.per_epoch,
            "tokens": state.tokens,
            "best_step": state.best_step,
            "held_out_loss": losses,
            "evaluations": state.evaluations,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "adapters", "tokenizers")},
            },
            **about,
        }
        files.write_atomic(to / ABOUT, json.dumps(about, indent=2, sort_keys=True) + "\n")

    def _put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in weights.items():
                self.parameters[name].copy_(value)
