"""Where the command line writes."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 160
"""Columns where nobody looks through a window: files and pipes get whole lines."""
PLAIN_EVERY_S = 15.0
"""Without a terminal a line of progress is printed so often."""


def terminal() -> Console:
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
