"""The command line. `main` turns every error a user can make into one screen and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any


def main() -> None:
    """Entry point of `raysched`; exits with the codes of `raysched.errors`."""
    import typer

    from raysched.cli.app import app
    from raysched.errors import CTRL_C, OUTSIDE_MISSING, RayschedError

    try:
        code = app(standalone_mode=False, prog_name="raysched")
    except RayschedError as error:
        print(f"raysched: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except _usage_error() as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # a disk, a path, a permission: nobody's bug
        where = f"{error.filename}: " if error.filename else ""
        print(f"raysched: {where}{error.strerror or error}", file=sys.stderr)  # noqa: T201
        code = OUTSIDE_MISSING
    except (KeyboardInterrupt, typer.Abort):
        print("raysched: stopped", file=sys.stderr)  # noqa: T201
        code = CTRL_C
    sys.stdout.flush()
    sys.exit(code or 0)


def _usage_error() -> Any:
    """The class of all errors in a command line. It is click's, of which newer versions of typer bring their own."""
    import typer

    return typer.BadParameter.__mro__[1]
