"""stdout and stderr of a command or job: full, closed or unable to show a character, they stop no training.

What they refuse is lost, which the exit code tells. File descriptors 0 to 2 are always open, since the next file that a
process opens would take the place of one that is not, and what any library prints would go into that file.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO

from rich.console import Console

LOST = 2
"""The exit code where it would be 0 if all that was printed had arrived."""
NOBODY_LISTENS = 141
"""That of a command which is in vain when its reader has gone: as the shell has it after SIGPIPE."""
WIDE = 400
"""Characters of a line of what is no terminal."""


class OutputLost(Exception):
    """What is printed arrives nowhere, and printing is all that this command does."""


class _Sink(io.RawIOBase):
    """Writes to a file descriptor, None if it was closed; `error`: why something was lost."""

    def __init__(self, descriptor: int | None, name: str, needed: bool):
        self.descriptor, self.name, self.needed = descriptor, name, needed
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self.descriptor is None:
            raise io.UnsupportedOperation(f"{self.name} is closed")
        return self.descriptor

    def isatty(self) -> bool:
        return self.descriptor is not None and os.isatty(self.descriptor)

    def write(self, data: Any) -> int:
        """Write all of it, or lose what is refused. The first refusal of what is needed raises OutputLost."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            first, self.error = self.error is None, self.error or error
            if first and self.needed:
                raise OutputLost from None
        return len(data)

    def _write_some(self, data: memoryview) -> int:
        if self.descriptor is None:
            raise OSError("it is closed")
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:  # a pipe that some other program has made one that does not wait
            select.select([], [self.descriptor], [])
            return 0


class Output:
    """Takes the place of sys.stdout and sys.stderr; of others than the process's own, as tests have them, it does not.

    needed: whether there is no point in going on where stdout is lost.
    """

    def __init__(self, needed: bool = False):
        self._sinks: dict[str, _Sink] = {}
        for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
            stream = getattr(sys, f"__{name}__")
            if stream is None:
                _open_as(descriptor)
            if descriptor and getattr(sys, name) is stream:
                place = None if stream is None else stream.fileno()
                self._sinks[name] = _Sink(place, name, needed and name == "stdout")
                setattr(sys, name, _text(self._sinks[name], stream))

    def settle(self, code: int) -> int:
        """Write what is left, say in a line what was lost, and return the exit code, which was to be `code`."""
        for name in self._sinks:
            with contextlib.suppress(OutputLost):
                getattr(sys, name).flush()
        errors = {name: sink.error for name, sink in self._sinks.items() if sink.error is not None}
        # whoever reads a pipe, such as head, may have seen enough
        refused = {name: error for name, error in errors.items() if not isinstance(error, BrokenPipeError)}
        if error := refused.get("stdout"):
            reason = error.strerror or error
            print(f"error: stdout cannot be written ({reason}); what was to be read there is lost", file=sys.stderr)
        if refused:
            return code or LOST
        return code or (NOBODY_LISTENS if any(self._sinks[name].needed for name in errors) else 0)


def _text(sink: _Sink, stream: TextIO | None) -> io.TextIOWrapper:
    """As `stream` is, but that it shows "?" for characters that its encoding does not have."""
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
    at_once = bool(getattr(stream, "write_through", False))  # PYTHONUNBUFFERED
    return io.TextIOWrapper(
        sink if at_once else io.BufferedWriter(sink),  # type: ignore[arg-type]
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace" if sink.name == "stderr" else "replace",
        line_buffering=sink.name == "stderr" or sink.isatty(),
        write_through=at_once,
    )


def lost() -> bool:
    """Whether something that was printed did not arrive on stdout."""
    buffer = getattr(sys.stdout, "buffer", None)
    sink = getattr(buffer, "raw", buffer)
    return isinstance(sink, _Sink) and sink.error is not None


def _open_as(descriptor: int) -> None:
    """Have a closed file descriptor lead nowhere; one that was taken meanwhile stays what it is."""
    try:
        os.fstat(descriptor)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != descriptor:
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        os.set_inheritable(descriptor, True)


def make_console() -> Console:
    """For stdout. Whatever FORCE_COLOR and TTY_INTERACTIVE say of colours, only on a terminal does anything move; and
    no COLUMNS of 0 leaves a text without room. A file or a pipe has all the room that a table takes."""
    if os.environ.get("COLUMNS", "").strip().lstrip("0") == "":
        os.environ.pop("COLUMNS", None)
    if sys.stdout is not None and sys.stdout.isatty():
        return Console()
    return Console(force_interactive=False, width=None if "COLUMNS" in os.environ else WIDE)
