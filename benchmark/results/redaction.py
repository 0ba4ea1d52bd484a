"""Keeping the environment's secrets out of what is written down: failures, logs, records."""

from __future__ import annotations

import os
import re
from typing import TextIO

SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)(_ID)?$", re.IGNORECASE)
"""Names of environment variables whose values are secrets."""
SHORTEST = 6
"""Shorter values are left alone: they are no secrets, and replacing them would garble texts."""


def redact(text: str) -> str:
    """`text` with the value of every secret environment variable replaced by its name."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and SECRET.search(name) and value in text:
            text = text.replace(value, f"[{name}]")
    return text


class RedactedStream:
    """A text stream that writes whole lines, redacted, so that a log holds no secret that somebody's code prints."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._line = ""
        self.encoding, self.errors = stream.encoding, stream.errors

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        if lines:
            self._stream.write(redact("\n".join(lines)) + "\n")
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Lines are flushed as they end; a line that is not whole stays, since it may hold half a secret."""

    def close_line(self) -> None:
        """Write the line that was begun."""
        if self._line:
            self.write("\n")

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True
