"""What a cluster tells about a pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysched.service.kubernetes.refusals import shown

USUAL = ("PodInitializing", "ContainerCreating")
"""Reasons to wait that need no word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod; `waits` says why it does not run (yet), `exit_code` is that of its first container's end."""

    name: str
    phase: str
    created: str
    waits: str
    exit_code: int | None

    @property
    def has_log(self) -> bool:
        return self.phase in ("Running", "Succeeded", "Failed")


def read_pod(raw: Mapping[str, Any]) -> Pod:
    """A pod from what the cluster sends."""
    status = raw.get("status", {})
    own = status.get("containerStatuses", [])
    states = [one.get("state", {}) for one in (*status.get("initContainerStatuses", []), *own)]
    waiting = [state["waiting"] for state in states if "waiting" in state]
    held = [one for one in status.get("conditions", []) if one.get("reason") == "Unschedulable"]
    why = [f"{one.get('reason', '')}: {one.get('message', '')}".strip(": ") for one in (*waiting, *held)]
    ended = [one["state"]["terminated"] for one in own if "terminated" in one.get("state", {})]
    return Pod(
        name=raw["metadata"]["name"],
        phase=status.get("phase", "Pending"),
        created=raw["metadata"].get("creationTimestamp", ""),
        waits=shown(next((one for one in why if one.partition(":")[0] not in USUAL), "")),
        exit_code=ended[0].get("exitCode") if ended else None,
    )
