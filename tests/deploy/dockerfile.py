"""Just enough of the Dockerfile language to say what a target installs: stages, instructions, arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str


@dataclass
class Stage:
    """`base` is an earlier stage's name, or an image."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [one.text for one in self.instructions if one.name == name]


@dataclass
class Dockerfile:
    arguments: dict[str, str]
    """Those before the first stage, by name, with their defaults."""
    stages: dict[str, Stage]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        found = cls({}, {})
        stage: Stage | None = None
        for one in _instructions(path.read_text()):
            if one.name == "FROM":
                image, _, name = one.text.split()
                stage = Stage(name, found.expanded(image))
                found.stages[name] = stage
            elif stage is None:
                name, _, value = one.text.partition("=")
                found.arguments[name] = value
            else:
                stage.instructions.append(one)
        return found

    def expanded(self, text: str, more: dict[str, str] | None = None) -> str:
        values = self.arguments | (more or {})
        return VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)

    def chain(self, target: str) -> list[Stage]:
        """The stages that a target is built on, the lowest first."""
        stage = self.stages[target]
        return [*(self.chain(stage.base) if stage.base in self.stages else []), stage]

    def environment(self, target: str) -> dict[str, str]:
        """What ENV of a target's stages says, values without quotes."""
        found: dict[str, str] = {}
        for stage in self.chain(target):
            for text in stage.all("ENV"):
                found |= dict(re.findall(r'(\w+)="?([^"\s]*)"?', text))
        return found

    def defaults(self, stage: str) -> dict[str, str]:
        """ARGs of one stage that have a default."""
        pairs = (text.partition("=") for text in self.stages[stage].all("ARG"))
        return {name: value for name, _, value in pairs if value}


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for whole in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if whole.strip():
            name, _, rest = whole.strip().partition(" ")
            yield Instruction(name.upper(), rest.strip())
