"""What every command line of the suite shares: one line for a user's mistake, and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import typer

from benchmark.errors import UserError

USAGE_ERROR = 2
INTERRUPTED = 130


def main(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run `app` and return its exit code; a UserError or a wrong option becomes one line on stderr and code 2."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except UserError as error:
        return _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return USAGE_ERROR
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return USAGE_ERROR
