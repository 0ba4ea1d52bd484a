"""What every command line of the suite shares: one line for a user's mistake, and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from benchmark import environment
from benchmark.cells import cut
from benchmark.errors import UserError, escaped
from benchmark.streams import Output, OutputLost
from benchmark.yaml_loader import NotYaml, load

RESULTS = Path("results/runs")
"""The results folder of a command that is given none."""
USAGE_ERROR = 2
INTERRUPTED = 130
LONGEST = 240
"""Characters that are shown of what torch says."""


def make_app(**options: Any) -> typer.Typer:
    """An empty command line. Errors and help are plain text: `main` makes one line of a mistake. options: typer's."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)


def main(app: typer.Typer, arguments: Sequence[str] | None = None, prints_only: bool = False) -> int:
    """Run `app` and return its exit code; a UserError or a wrong option becomes one line on stderr and code 2.

    prints_only: the command leaves nothing behind but what it prints, and ends where nobody can read that.
    """
    environment.settle()
    output = Output(needed=prints_only)
    return output.settle(_run(app, sys.argv[1:] if arguments is None else list(arguments)))


def _run(app: typer.Typer, arguments: list[str]) -> int:
    try:
        environment.check_text(arguments)
        environment.check_allocator()
        _check_given(arguments)
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        return _refuse(str(error))
    except OutputLost:
        return 0  # Output.settle turns it into the code for that
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:  # what the machine refuses: a full disk, one more file or process, a folder that is gone
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}")
    except Exception as error:
        # Typer raises click's exceptions, of a click that it may carry inside: known by what they can do.
        if message := getattr(error, "format_message", None):
            return _refuse(f"{message()} (--help shows what is accepted)")
        if _ended_import_of("torch", error):  # a variable that it reads then, such as TORCH_LOGS, has a wrong value
            return _refuse(f"torch cannot be loaded: {cut(' '.join(str(error).split()), LONGEST)}")
        raise
    return code if isinstance(code, int) else 0


def _check_given(arguments: list[str]) -> None:
    """Raises UserError for an empty argument, as a shell variable without a value leaves it: as a path it would be the
    current folder."""
    for before, argument in pairwise(["", *arguments]):
        option, equals, value = argument.partition("=")
        if not argument:
            raise UserError(f"the argument after {before} is empty" if before else "the first argument is empty")
        if option.startswith("--") and equals and not value:
            raise UserError(f"{argument} has no value")


def _ended_import_of(module: str, error: BaseException) -> bool:
    return any(
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == module
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _refuse(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return USAGE_ERROR


def parse_settings(texts: list[str], option: str = "--set") -> dict[str, Any]:
    """KEY=VALUE texts of --set as a mapping; values are read as YAML. option: where they were given."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{option} {cut(text)}: write KEY=VALUE, such as batch_size=64")
        try:
            settings[key.strip()] = load(value)
        except NotYaml as error:
            raise UserError(f"{option} {cut(text)}: the value is not valid YAML: {error}") from None
    return settings


def check_writable(out: Path) -> None:
    """Raises UserError where the work before writing `out` would be in vain."""
    if out.is_dir():
        raise UserError(f"--out {escaped(out)}: it is a folder; write a file")
    if out.exists() and not out.is_file():  # a pipe or a device
        return
    folder = Path(os.path.realpath(out)).parent
    if not os.access(folder, os.W_OK):
        why = "cannot be written" if folder.exists() else "is not there"
        raise UserError(f"--out {escaped(out)}: the folder {escaped(folder)} {why}")
