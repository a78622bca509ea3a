"""Sweeps to be submitted."""

from __future__ import annotations

from typing import Any

from raysched.service.submit import Order
from raysched.study.load import load


def order(asked: str = "xquad-mini", **more: Any) -> Order:
    """Of a study, kept where the cluster keeps sweeps."""
    loaded = load(asked, more.get("overrides", ()), name=more.pop("name", None))
    return Order(asked=asked, loaded=loaded, **({"storage": "/storage/sweeps"} | more))
