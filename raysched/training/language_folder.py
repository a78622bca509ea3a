"""The folder of a language adapter in the making: its settings, its tokens, its result; one training at a time."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from raysched.errors import DamageError, MissingError, StoppedError, StudyError
from raysched.records import files
from raysched.records.lock import DriverLock
from raysched.study.identity import Content
from raysched.training import plain_text, snapshots
from raysched.training.language_settings import Limits, Settings, State
from raysched.training.plain_text import Blocks, Text
from raysched.training.pretrain_language import ABOUT, WORK, LanguageTraining
from raysched.training.random_madx import LANGUAGE

SETTINGS, COUNTS, TOKENS = "settings.json", "text.json", "text.safetensors"


class LanguageFolder:
    """`path` is DIR/<language>."""

    def __init__(self, to: Path, language: str) -> None:
        """Raises StudyError where the language is no code, or its folder holds something that was not made here."""
        if not LANGUAGE.fullmatch(language):
            raise StudyError(
                f"must be a code of letters, digits, - and _, but got {language!r}",
                key="--language",
                hint="sw or zh, for example",
            )
        self.path = to / language
        self.work = self.path / WORK
        self._stored: dict[str, Any] | None = files.read_checked(self.work / SETTINGS) if self._begun else None
        if not self._begun and self.path.is_dir() and any(path.name != WORK for path in self.path.iterdir()):
            raise StudyError(
                f"{self.path} holds something that was not made here",
                key="--to",
                hint="give another folder, or move that away",
            )

    @property
    def _begun(self) -> bool:
        """Whether anything would be lost with this folder."""
        return any(self.work.glob("step-*"))

    @property
    def backbone(self) -> Content | None:
        """What the training that was begun here took: its commit is kept."""
        return None if self._stored is None else Content.model_validate(self._stored["backbone"])

    @property
    def text(self) -> Content | None:
        return None if self._stored is None else Content.model_validate(self._stored["text"])

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[None]:
        """Hold the folder, with `settings` as those of its training. Refused inputs leave nothing of it behind.

        Raises:
            StudyError: it was begun with others.
            StoppedError: another process holds it.
        """
        is_new = not self.path.parent.exists()
        lock = DriverLock(self.work / "lock", what="process trains this adapter")
        try:
            lock.acquire()
        except StoppedError as error:
            raise StoppedError(error.what, key="--to", hint="wait for it, stop it, or give another --to") from error
        with lock:
            try:
                self._begin(settings)
                yield
            except (StudyError, MissingError):
                if not self._begun:
                    shutil.rmtree(self.path)
                    if is_new:
                        self.path.parent.rmdir()
                raise

    def _begin(self, settings: Settings) -> None:
        """Write the settings down, or compare them with those that stand there."""
        mine = settings.to_json()
        if not self._begun:
            contents = {name: getattr(settings, name).model_dump(mode="json") for name in ("backbone", "text")}
            files.write_checked(self.work / SETTINGS, {"settings": mine, **contents})
            return
        theirs = files.read_checked(self.work / SETTINGS)["settings"]
        different = [key for key in mine if mine[key] != theirs.get(key)]
        if different:
            told = ", ".join(f"{key} is {theirs.get(key)} there and {mine[key]} here" for key in different)
            raise StudyError(
                f"{self.path} was begun with other settings: {told}",
                key=f"--{different[0].replace('_', '-')}",
                hint="give another --to, or the settings as they were; --epochs, --hours and --steps may change",
            )

    def result(self) -> dict[str, Any]:
        """training.json."""
        value: dict[str, Any] = json.loads((self.path / ABOUT).read_text())
        return value

    def finished(self, limits: Limits) -> bool:
        """Whether the result is that of these limits."""
        found = snapshots.newest(self.work)
        if found is None or not (self.path / ABOUT).is_file():
            return False
        state = State.read(found[0])
        return limits.reached(state) is not None and self.result()["steps"] == state.step

    def tokens(self, settings: Settings, tokenizer: PreTrainedTokenizerBase, progress: Callable[[int], None]) -> Text:
        """The text as tokens, made once and kept. Raises what `plain_text` raises."""
        path, about = self.work / TOKENS, self.work / COUNTS
        try:
            known = files.read_checked(about)
            if known["settings"] == settings.to_json() and known["tokens"] == files.sha256_file(path):
                made = load_file(path)
                return Text(train=made["train"], held_out=made["held_out"], **known["counts"])
        except (FileNotFoundError, DamageError):
            pass  # not made yet, or not to its end: it comes out the same
        lines = plain_text.read(settings.text, settings.part, settings.column)
        text = plain_text.tokenised(lines, tokenizer, held_out=settings.held_out, seed=settings.seed, progress=progress)
        save_file({"train": text.train, "held_out": text.held_out}, path)
        counts = {"lines": text.lines, "held_out_lines": text.held_out_lines, "unknown": text.unknown}
        made_of = {"settings": settings.to_json(), "tokens": files.sha256_file(path)}
        files.write_checked(about, {"counts": counts, **made_of})
        return text

    def training(
        self, settings: Settings, tokenizer: PreTrainedTokenizerBase, text: Text, model: PreTrainedModel
    ) -> LanguageTraining:
        """At its newest snapshot, or at its beginning."""
        train, held_out = (Blocks(tokens, tokenizer, settings.length) for tokens in (text.train, text.held_out))
        return LanguageTraining(settings, model, train, held_out, self.work)

    def about(
        self, settings: Settings, limits: Limits, text: Text, missing: tuple[str, ...], state: State
    ) -> dict[str, Any]:
        """What training.json says beside the losses."""
        names = {"backbone": settings.backbone.where, "text": settings.text.where}
        return {
            "made_by": "raysched pretrain language",
            "names": names,
            "settings": settings.to_json(),
            "limits": {"epochs": limits.epochs, "hours": limits.hours, "steps": limits.steps},
            "ended_by": limits.reached(state),
            "text": text.counts(),
            "random_head": list(missing),
        }
