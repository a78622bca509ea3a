"""The command line. `main` turns every error a user can make into one screen and an exit code."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of `raysched`; exits with the codes of `raysched.errors`."""
    import click

    from raysched.cli.app import app
    from raysched.errors import CTRL_C, RayschedError

    try:
        code = app(standalone_mode=False)
    except RayschedError as error:
        print(f"raysched: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("raysched: stopped", file=sys.stderr)  # noqa: T201
        code = CTRL_C
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.stdout.flush()
    sys.exit(code or 0)
