"""Killing the driver, its workers, or both, at moments that chance picks; a seed repeats them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field

from raysched.errors import DONE
from raysched.records.layout import SweepLayout
from tests.processes import Command, Shell, wait, workers
from tests.runners.world import attempts, records, segments

UP_S = 150
"""A driver that has launched nothing after so long is stuck."""


@dataclass
class Violence:
    """Starts the drivers of one sweep and kills them; `runs` is how many records it will end with."""

    shell: Shell
    command_line: list[str]
    layout: SweepLayout
    chance: random.Random
    runs: int
    starts: int = 0
    driver_kills: int = 0
    worker_kills: int = 0
    story: list[str] = field(default_factory=list)

    def strike(self) -> bool:
        """One driver, killed at some moment of its life; False where the sweep had come to its end before."""
        moments = {self._starting: 2, self._training: 5, self._between_records: 2, self._ending: 1}
        (moment,) = self.chance.choices([*moments], [*moments.values()])
        began = time.monotonic()
        command = self._start()
        moment(command)
        too = command.running and self.chance.random() < 0.3 and self._kill_worker()
        if not command.running:
            assert command.end() == DONE, command.text
            self.story.append("came to its end")
            return False
        self.shell.alive()  # remember the private Ray folder
        command.kill()  # its workers are left to themselves
        self.driver_kills += 1
        self.story.append(
            f"{moment.__name__.strip('_')}{' and a worker' if too else ''}, {time.monotonic() - began:.1f} s after its "
            f"start: {segments(self.layout)} segments, {len(records(self.layout))} records"
        )
        return True

    def finish(self) -> None:
        """The same command once more, to the end."""
        command = self._start()
        assert command.end(300) == DONE, command.text

    def _start(self) -> Command:
        self.starts += 1
        return self.shell.raysched(*self.command_line)

    # -- moments --------------------------------------------------------------------------------------------------

    def _starting(self, command: Command) -> None:
        """Anywhere between the first import and the first attempt."""
        self._sleep(command, self.chance.uniform(0, 12))

    def _training(self, command: Command) -> None:
        """After some sealed segments; every other time a worker dies before, and the driver goes on for a moment."""
        self._until_up(command)
        goal = segments(self.layout) + self.chance.randint(0, 20)
        self._until(command, lambda: segments(self.layout) >= goal)
        if self.chance.random() < 0.5 and self._kill_worker():
            self._sleep(command, self.chance.uniform(0, 8))
        self._sleep(command, self.chance.uniform(0, 1))

    def _between_records(self, command: Command) -> None:
        """Within half a second of a record: told or not, noticed by the uploader or not."""
        self._until_up(command)
        goal = len(records(self.layout)) + 1
        self._until(command, lambda: len(records(self.layout)) >= goal)
        self._sleep(command, self.chance.uniform(0, 0.5))

    def _ending(self, command: Command) -> None:
        """After the last record: telling, closing, uploading."""
        self._until_up(command)
        self._until(command, lambda: len(records(self.layout)) == self.runs)
        self._sleep(command, self.chance.uniform(0, 4))

    def _until_up(self, command: Command) -> None:
        before = len(attempts(self.layout))
        self._until(
            command,
            lambda: len(attempts(self.layout)) > before or len(records(self.layout)) == self.runs,
        )

    def _until(self, command: Command, condition: object) -> None:
        wait(lambda: not command.running or condition(), UP_S)  # type: ignore[operator]

    def _sleep(self, command: Command, seconds: float) -> None:
        until = time.monotonic() + seconds
        while command.running and time.monotonic() < until:
            time.sleep(0.02)

    def _kill_worker(self) -> bool:
        """Whether there was one to kill."""
        there = workers(self.shell.folder)
        if not there:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.chance.choice(there).pid, signal.SIGKILL)
        self.worker_kills += 1
        return True
