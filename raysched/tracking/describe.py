"""What MLflow's runs of a sweep are called, and by which parameters and tags they are grouped. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysched.records.entries import PointTaken
from raysched.tracking import rows


def cell_tags(point: PointTaken) -> dict[str, str]:
    """`cell` reads like "gu lr=0.001 k=20": all runs of a cell, and the cell, group by it."""
    return {
        "raysched.level": "cell",
        "raysched.cell": point.cell_id,
        "cell": rows.point_name(point.params),
        "schedule": str(point.params.get("schedule", "")),
    }


def cell_params(point: PointTaken) -> dict[str, str]:
    return {key: str(value) for key, value in point.params.items()}


def run_name(point: PointTaken, seed: int) -> str:
    return f"{rows.point_name(point.params)} seed={seed}"


def run_tags(point: PointTaken, run_id: str) -> dict[str, str]:
    return {**cell_tags(point), "raysched.level": "run", "raysched.run_id": run_id}


def run_params(point: PointTaken, seed: int, study: Mapping[str, Any]) -> dict[str, str]:
    """A point, its seed, and what all runs of the sweep share: the search and its seeds describe the sweep."""
    shared = {key: value for key, value in study.items() if key not in ("search", "seeds", "description")}
    return cell_params(point) | {"seed": str(seed)} | rows.flatten(shared)
