"""The one exception that users see as a line of text rather than a traceback."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path


class UserError(Exception):
    """A mistake in what the user wrote or a place that cannot be used.

    The message is one line that names the file or option, the key, the value and what is accepted. Command-line
    programs print it after "error: " and exit with code 2.
    """


class CannotGoOn(UserError):
    """What would stop every further cell as well: a results folder that refuses, data that are gone or not the same."""


def escaped(path: str | Path) -> str:
    """A path as messages and records have it: one line of UTF-8, whatever bytes the file system gave."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def named(error: BaseException) -> str:
    """The kind of an error and what it says, in one line."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))


def told(error: BaseException) -> str:
    """An error of somebody else's code in one line, with the last line of that code, else the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    user_frames = [frame for frame in frames if _is_own(Path(frame.filename))]
    last = (user_frames or frames)[-1]
    return f"{named(error)}, at {escaped(Path(last.filename).name)} line {last.lineno}: {last.line}"


def _is_own(path: Path) -> bool:
    """Whether code is the user's: neither Python's, nor of an installed package, nor ours."""
    if str(path).startswith("<"):  # of Python's import system, or made from a text
        return False
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    others = sysconfig.get_path("stdlib"), Path(__file__).parent
    return not installed and not any(path.is_relative_to(folder) for folder in others)
