"""Where the command line writes."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 160
"""Columns where nobody looks through a window: files and pipes get whole lines."""


def terminal() -> Console:
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
