"""Before the real thing: a tiny run of every schedule, with a checkpoint, its process dropped, and a resume.

The tiny study keeps the backbone, the language adapters, the task, the batch size and the precision of the real one,
so what a step takes of time and memory is what it will take; it has few steps, few rows and short intervals. Nothing
of it is recorded.
"""

from __future__ import annotations

import contextlib
import json
import resource
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from raysched import hub
from raysched.errors import MissingError, RayschedError, StudyError
from raysched.records import files, mirror
from raysched.records.layout import SweepLayout
from raysched.records.remote import Remote
from raysched.records.storage_uri import canonical
from raysched.runners.assignment import Assignment
from raysched.runners.worker import Worker
from raysched.study.identity import Content, Resolved, RunSpec
from raysched.study.model import Study
from raysched.study.search import Search
from raysched.study.space import Point, points, uses_k
from raysched.study.stored import stored
from raysched.tasks import sources

NAME = "smoke"
"""Of the sweep that the tiny runs make up, in a folder of its own."""
CPU_STEPS = 6
SPARE_STEPS = 3
"""On a GPU, steps after the last layer woke: the memory of a run is largest then."""
QUESTIONS = 4
"""Rows scored per language."""
OUTSIDE = frozenset({"oom", "cuda_oom", "memory", "worker_lost", "node_lost", "storage", "hang", "unknown"})
"""Causes that another machine, or another share of it, would not have; the others lie in the study."""
NEXT = {
    "oom": "give a run more memory: resources.memory_gb, fewer runs at a time (--max-concurrent), or a smaller batch",
    "cuda_oom": "give a run a larger share of the GPU (resources.gpu) or a smaller training.batch_size",
    "nan": "a smaller learning rate, or training.precision=fp32",
    "storage": "check that every machine of the cluster sees --storage and may write there",
}
CONTEXT_BYTES = 600 * 1024**2
"""What a process takes of a GPU beside its tensors."""
PACKED_MOST = 16
"""So many runs at most are proposed to share a GPU."""
FULL = 0.9
"""Of a GPU's memory, so much is filled by a proposal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process's part of a tiny run. `cause` is None where it went well."""

    seconds: tuple[float, ...] = ()
    peak_bytes: int = 0
    device_bytes: int | None = None
    """Memory of the whole GPU; None on a CPU."""
    cause: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoked:
    """How the tiny run of one schedule and method went."""

    schedule: str
    method: str
    parts: tuple[Part, ...]

    @property
    def cause(self) -> str | None:
        return next((part.cause for part in self.parts if part.cause), None)

    @property
    def message(self) -> str:
        return next((part.message for part in self.parts if part.cause), "")

    @property
    def step_seconds(self) -> float | None:
        """The usual time of a step; the first one of each process, which warms up, is left out."""
        found = [seconds for part in self.parts for seconds in part.seconds[1:]]
        return statistics.median(found) if found else None

    @property
    def peak_bytes(self) -> int:
        """The most memory of the GPU, or of the process where there is none."""
        return max((part.peak_bytes for part in self.parts), default=0)

    @property
    def share(self) -> float | None:
        """The part of a GPU that would do; None on a CPU."""
        device = next((part.device_bytes for part in self.parts if part.device_bytes), None)
        return gpu_share(self.peak_bytes, device) if device else None


def gpu_share(peak_bytes: int, device_bytes: int) -> float:
    """resources.gpu for runs that take `peak_bytes` each, in ten-thousandths as Ray counts; 1 where no two fit."""
    fit = int(FULL * device_bytes // (peak_bytes + CONTEXT_BYTES))
    return 10_000 // min(max(fit, 1), PACKED_MOST) / 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where tiny runs leave their files until they are cleared away: below the sweep's own storage, to try that too."""

    storage: str
    here: Path
    """Its folder on the driver's machine."""
    remote: bool = False

    @classmethod
    def beside(cls, layout: SweepLayout) -> Place:
        """A new one, in no sweep's way."""
        if layout.remote is None:
            folder = tempfile.mkdtemp(prefix="smoke-", dir=layout.root)
            return cls(storage=folder, here=Path(folder))
        uri = canonical(f"{layout.uri}/.smoke-{layout.name}-{secrets.token_hex(4)}")
        return cls(storage=uri, here=files.make_folder(mirror.folder_of(uri)), remote=True)

    def clear_here(self) -> None:
        """Remove what is on this machine."""
        folder = mirror.folder_of(self.storage) if self.remote else self.here
        shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove what is on this machine and in the storage."""
        self.clear_here()
        if self.remote:
            with contextlib.suppress(RayschedError, OSError):  # the sweep itself will tell, if the store is away
                store = Remote(self.storage)
                store.delete(store.below())


# -- the tiny study -------------------------------------------------------------------------------------------------


def chosen(search: Search) -> list[Point]:
    """One point of every schedule and method."""
    found: dict[tuple[str, str], Point] = {}
    for point in points(search):
        found.setdefault((point.schedule, point.method), point)
    return list(found.values())


def tiny(study: Study, resolved: Resolved, point: Point, folder: Path) -> RunSpec:
    """The tiny run of a point; what it needs beside the real inputs is written below `folder`.

    Raises:
        StudyError: the study has a rule that its tiny version breaks.
    """
    config = json.loads((hub.local_folder(resolved.backbone) / "config.json").read_text())
    steps = int(config["num_hidden_layers"]) + SPARE_STEPS if resolved.device == "cuda" else CPU_STEPS
    k = 1 if uses_k(point.schedule) else None
    value: dict[str, Any] = study.model_dump(mode="json")
    value["training"] |= {"epochs": None, "steps": steps, "checkpoint_every_steps": steps // 2}
    value["search"] |= {
        "schedule": [point.schedule],
        "method": [point.method],
        "lr": [point.lr],
        "k": [k] if k else [],
        "arms": [],
        "sampler": "grid",
        "points": None,
    }
    value["seeds"], value["budget"] = [study.seeds[0]], {}
    value["data"] |= {"train_examples": _rows(study, resolved), "subset": "first_n"}
    for limit in ("dev_limit", "test_limit"):
        value["evaluation"][limit] = min(value["evaluation"][limit] or QUESTIONS, QUESTIONS)
    value["evaluation"]["dev_points"] = 2
    for measurement in value["fisher"].values():
        if measurement["preset"] == "eq1":
            measurement["batches"] = 1
    value["fisher"]["log"]["every_steps"] = min(value["fisher"]["log"]["every_steps"], steps // 2)
    value["tracking"]["log_every_steps"] = 1
    if resolved.replay is not None and point.schedule == "replay":
        recorded = _squeezed(resolved.replay, folder)
        resolved = resolved.model_copy(update={"replay": recorded})
        value["training"]["replay"] = recorded.path
    small = stored(value)
    point = replace(point, k=k, epochs=None, steps=None)
    return RunSpec.make(small, resolved, point, small.seeds[0])


def _rows(study: Study, resolved: Resolved) -> int:
    """Two batches of training rows, or as many as there are."""
    wanted = min(study.data.train_examples or 2 * study.training.batch_size, 2 * study.training.batch_size)
    everything = study.model_copy(update={"data": study.data.model_copy(update={"train_examples": None})})
    return len(sources.rows(resolved.train, everything, "train", study.model.source_language, limit=wanted))


def _squeezed(recorded: Content, folder: Path) -> Content:
    """The recorded order with its events at steps 1, 2, ..."""
    order = json.loads(Path(recorded.path or "").read_text())["order"]
    path = folder / "order.json"
    files.write_atomic(path, json.dumps({"order": [[step, layers] for step, (_, layers) in enumerate(order, 1)]}))
    return Content(where=str(path), revision=files.sha256_file(path), path=str(path))


def assignment(spec: RunSpec, storage: str, number: int) -> Assignment:
    return Assignment(spec=spec, epoch=1, number=number, sweep=NAME, storage=storage)


# -- in a worker ----------------------------------------------------------------------------------------------------


class Smoker:
    """Executes parts of tiny runs in this process, and measures them."""

    def __init__(self, localize: Callable[[Resolved], Resolved] = lambda resolved: resolved) -> None:
        self._worker = Worker(localize=localize)

    def begin(self, one: Assignment) -> Part:
        """Train until one step after the checkpoint, and leave all as a kill would."""
        return self._part(one, 0, until=one.spec.study.training.checkpoint_every_steps + 1)

    def finish(self, one: Assignment) -> Part:
        """Continue from the checkpoint of another process, to the tests of the last step."""
        return self._part(one, one.spec.study.training.checkpoint_every_steps, until=None)

    def _part(self, one: Assignment, first: int, *, until: int | None) -> Part:
        _forget_peak()
        seconds, step, began = [], first, time.perf_counter()
        self._worker.take(one)
        heard = False
        while True:
            report = self._worker.advance(0)  # one event
            took, began = time.perf_counter() - began, time.perf_counter()
            cause, message = report.cause, report.message
            if report.step > step:
                step = report.step
                seconds.append(took)
            if report.outcome == "finished" or (until is not None and report.step >= until):
                return Part(seconds=tuple(seconds), **_peak())
            if report.outcome is not None:
                return Part(seconds=tuple(seconds), **_peak(), cause=cause or "code", message=message)
            if not heard and report.step < first:
                message = f"step {first} was saved, but not continued from"
                return Part(seconds=tuple(seconds), **_peak(), cause="checkpoint", message=message)
            heard = True


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> dict[str, Any]:
    """Memory since `_forget_peak`, where the kernel lets it be forgotten."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return {"peak_bytes": torch.cuda.max_memory_reserved(), "device_bytes": whole}
    with contextlib.suppress(OSError, StopIteration, ValueError):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_bytes": int(line.split()[1]) * 1024}
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


# -- what comes of it -----------------------------------------------------------------------------------------------


def refusal(found: Sequence[Smoked], name: str) -> RayschedError | None:
    """Why the sweep is not started: MissingError where only a machine is lacking, StudyError otherwise."""
    failed = [one for one in found if one.cause]
    if not failed:
        return None
    told = "; ".join(f"{one.schedule} ({one.method}): {one.cause}, {one.message}" for one in failed)
    kind = MissingError if all(one.cause in OUTSIDE for one in failed) else StudyError
    return kind(
        f"{len(failed)} of {len(found)} tiny runs failed, and nothing was started: {told}",
        key=name,
        hint=NEXT.get(failed[0].cause or "", "mend the study; without --smoke the real runs would fail likewise"),
    )
