"""`pretrain`: backbones and language adapters made here, and what the user sees meanwhile."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from raysched.cli.terminal import PLAIN_EVERY_S, terminal
from raysched.errors import Interrupted, MissingError, RunError, StudyError
from raysched.runners.signals import interrupted_by, signals

if TYPE_CHECKING:
    import torch

    from raysched.training.language_folder import LanguageFolder
    from raysched.training.language_settings import Limits, Settings
    from raysched.training.plain_text import Text
    from raysched.training.pretrain_language import LanguageTraining


def mini(to: Path) -> None:
    """Make the shipped assets of the mini world again below `to`."""
    import torch

    from raysched.training import pretrain_mini as recipe
    from raysched.training.mlm import MlmStep

    console = terminal()

    def show(part: str, step: MlmStep) -> None:
        if step.step % 100 == 0:
            console.print(f"{part}: step {step.step}, loss {step.loss:.3f}", highlight=False)

    torch.set_num_threads(1)  # as the shipped weights were made; more threads add up in another order
    recipe.pretrain_mini(to, progress=show)
    console.print(f"written: {to}", highlight=False)


def random(
    to: Path, tokenizer: Path, languages: str, layers: int, width: int, max_length: int, seed: int, architecture: str
) -> None:
    """Make a random backbone and print the overrides that use it."""
    from raysched.training import random_madx

    codes = [code.strip() for code in languages.split(",") if code.strip()]
    backbone, template = random_madx.make(
        to,
        random_madx.load_tokenizer(tokenizer),
        codes,
        layers=layers,
        width=width,
        max_length=max_length,
        seed=seed,
        architecture=architecture,  # type: ignore[arg-type]  # refused there if it is none
    )
    terminal().print(
        f"use it:  --set model.backbone={backbone} --set 'model.language_adapters={template}'", highlight=False
    )


def language(to: Path, limits: Limits, *, backbone: str, text: str, device: str, **options: Any) -> None:
    """Train a language adapter, or continue, or say that it is finished.

    Raises:
        StudyError: an option or an input is malformed, or `to` holds a training with other settings.
        MissingError: an input or the device is not there.
        StoppedError: another process trains this very adapter.
        Interrupted: Ctrl-C or SIGTERM; nothing is lost.
        RunError: the loss is not finite, or the device's memory is too small.
    """
    import torch

    from raysched import hub
    from raysched.runners import preflight
    from raysched.training import masked_lm, plain_text
    from raysched.training.language_folder import LanguageFolder
    from raysched.training.language_settings import Settings

    console = terminal()
    chosen = _device(device)
    folder = LanguageFolder(to, options["language"])
    found = masked_lm.inspect(hub.local_folder(content := preflight.backbone(backbone, folder.backbone, "--backbone")))
    source, part = plain_text.find(text, folder.text)
    settings = Settings(backbone=content, text=source, part=part, device=chosen.type, **options)
    settings.check(found.positions, found.config.hidden_size)
    with signals() as asked, folder.opened(settings):
        if folder.finished(limits):
            console.print(f"{folder.path} is finished; nothing was left to do", highlight=False)
            return _ended(console, folder, settings)
        screen = _Screen(console, limits, asked)
        words = folder.tokens(settings, found.tokenizer, screen.read)
        screen.text(words)
        model, missing = masked_lm.load(found, seed=settings.seed, device=chosen)
        if missing:
            console.print(
                f"warning: {content.where} lacks its masked-language head ({missing[0]}, ...); a random one takes its "
                "place" + ("" if settings.train_head else ". --train-head trains it beside the adapter"),
                highlight=False,
                markup=False,
            )
        training = folder.training(settings, found.tokenizer, words, model)
        try:
            screen.follow(training)
        except torch.OutOfMemoryError as error:
            hint = "a smaller --batch-size or --length, or --precision bf16, takes less; give another --to with it"
            raise RunError(f"{chosen} has too little memory: {error}", cause="cuda_oom", hint=hint) from error
        training.finish(folder.path, folder.about(settings, limits, words, missing, training.state))
        _ended(console, folder, settings)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise StudyError(
            f"must be a device, but got {name!r}", key="--device", choices=("auto", "cpu", "cuda", "cuda:N")
        )
    there = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= there:
        raise MissingError(
            f"{name} is not there: torch finds {there} GPUs", key="--device", hint="--device auto takes what is there"
        )
    return device


class _Screen:
    """Shows a training: a line that is renewed on a terminal, one now and then elsewhere."""

    def __init__(self, console: Console, limits: Limits, asked: Callable[[], int]) -> None:
        self.console, self.limits, self._asked = console, limits, asked
        self._shown = time.monotonic()

    def _now_and_then(self, line: Callable[[], str]) -> None:
        now, live = time.monotonic(), self.console.is_terminal
        if now - self._shown < (1.0 if live else PLAIN_EVERY_S):
            return
        self._shown = now
        if live:
            sys.stdout.write(f"\r\x1b[K{line()}")
            sys.stdout.flush()
        else:
            self.say(line())

    def say(self, line: str) -> None:
        if self.console.is_terminal:
            sys.stdout.write("\r\x1b[K")
        self.console.print(line, highlight=False, markup=False)

    def read(self, n: int) -> None:
        """So many lines of text were read. Raises Interrupted."""
        self._stop_if_asked("")
        self._now_and_then(lambda: f"text: {n:,} lines read")

    def text(self, text: Text) -> None:
        self.say(
            f"text: {text.lines:,} lines ({len(text.train):,} tokens) to train on, {text.held_out_lines:,} "
            f"({len(text.held_out):,} tokens) held out"
        )
        if text.unknown > 0.05:
            self.say(f"warning: the tokenizer does not know {text.unknown:.0%} of the tokens")

    def follow(self, training: LanguageTraining) -> None:
        """Run it to its end. Raises Interrupted, after a snapshot."""
        from raysched.training.pretrain_language import Evaluated

        if training.state.step:
            self.say(f"continues after step {training.state.step:,}")
        began, tokens, first = time.monotonic(), 0, training.state.step
        for event in training.events(self.limits):
            if isinstance(event, Evaluated):
                beside = f"; {event.without_adapter:.4f} without the adapter" if event.step == 0 else ""
                self.say(
                    f"step {event.step:,}: held-out loss {event.loss:.4f}{beside}{', the best' if event.best else ''}"
                )
            else:
                tokens += event.tokens
                took = time.monotonic() - began
                line = (event.step, event.loss, tokens / took, took / (event.step - first))
                self._now_and_then(lambda line=line: self._line(training, *line))  # type: ignore[misc]
            if self._asked():
                training.save()
                self._stop_if_asked(f" after step {training.state.step:,}, which is saved")

    def _line(self, training: LanguageTraining, step: int, loss: float, speed: float, step_s: float) -> str:
        total = self.limits.total(training.state.per_epoch)
        left = min((total - step) * step_s, self.limits.hours * 3600 - training.state.seconds)
        minutes = max(left, 0) / 60
        return f"step {step:,} of {total:,}: loss {loss:.3f}, {speed:,.0f} tokens/s, about {minutes:.0f} min left"

    def _stop_if_asked(self, where: str) -> None:
        if code := self._asked():
            again = shlex.join(["raysched", *sys.argv[1:]])
            raise Interrupted(f"{interrupted_by(code)}: stopped{where}", exit_code=code, hint=f"continue: {again}")


def _ended(console: Console, folder: LanguageFolder, settings: Settings) -> None:
    """What came of it, and how it is used."""
    about = folder.result()
    losses = about["held_out_loss"]
    lines = [
        f"held-out loss {losses['without_adapter']:.4f} without the adapter, {losses['best']:.4f} with it (step "
        f"{about['best_step']:,}); ended after {about['steps']:,} steps by --{about['ended_by']}"
    ]
    if losses["best"] >= losses["without_adapter"]:
        lines.append("warning: the adapter does not help; more text, more steps or another --lr may")
    code = settings.language
    other = f" --set model.language_adapter_config.reduction={settings.reduction:g}" if settings.reduction != 2 else ""
    lines += [
        f"written: {folder.path}",
        f"use it:  --set model.language_adapter_overrides.{code}={folder.path}{other}",
        f"or, with all languages there:  --set 'model.language_adapters={folder.path.parent}/{{language}}'{other}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)
