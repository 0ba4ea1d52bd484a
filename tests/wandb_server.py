"""A small W&B server on this machine: enough of its API for wandb to create, fill and finish runs, and ways to fail."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "k" * 40
"""Looks like a key, and must appear in no file."""


@dataclass
class ReceivedRun:
    """What the server was told of one run."""

    variables: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    @property
    def config(self) -> dict[str, Any]:
        values = json.loads(self.variables["config"])
        return {key: value["value"] for key, value in values.items() if key != "_wandb"}

    def rows(self) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if not key.startswith("_")} for row in self.history]


class Server:
    """runs: by id; replaced: those whose place they took. upload_status: what uploads of history get (403: refused).

    dies: stop serving at the first upload.
    crash: answer so that wandb's own service crashes, as 0.31.0 does at an answer without files. status: what every
    request gets (401: the key is refused). delay: seconds before every answer.
    """

    def __init__(
        self, upload_status: int = 200, dies: bool = False, crash: bool = False, status: int = 200, delay: float = 0.0
    ):
        self.runs: dict[str, ReceivedRun] = {}
        self.replaced: dict[str, ReceivedRun] = {}
        self.created: list[str] = []
        self.upload_status, self.dies, self.crash = upload_status, dies, crash
        self.status, self.delay = status, delay
        self._server = _QuietServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[Server]:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        time.sleep(self.delay)
        if self.status != 200:
            return self.status, {"errors": [{"message": "no"}]}
        if path == "/graphql":
            request = json.loads(body)
            return 200, {"data": self._graphql(request["query"], request.get("variables") or {})}
        if path.endswith("/file_stream"):
            if self.dies:
                threading.Thread(target=self.stop, daemon=True).start()
                return 500, {}
            if self.upload_status == 200:
                self._stream(self.runs[path.split("/")[-2]], json.loads(body))
            return self.upload_status, {}
        return 200, {}

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            name = variables["name"]
            if variables.get("groupName") is not None:  # later calls change the config of a run, no more
                self.created.append(name)
                if name in self.runs:
                    self.replaced[name] = self.runs[name]
                self.runs[name] = ReceivedRun(variables)
            project = {"id": "cA==", "name": variables["project"], "entity": {"id": "ZQ==", "name": "somebody"}}
            bucket = {"id": "aWQ=", "name": name, "displayName": "", "config": variables["config"], "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}
        if "createRunFiles" in query and not self.crash:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "aWQ=", "uploadHeaders": [], "files": files}}
        return {}

    def _stream(self, run: ReceivedRun, said: dict[str, Any]) -> None:
        for name, chunk in said.get("files", {}).items():
            lines = [json.loads(line) for line in chunk["content"]]
            if name == "wandb-history.jsonl":
                run.history += lines
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        run.finished = run.finished or bool(said.get("complete"))


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed in mid-request are what some tests are about."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status, answer = server.answer(self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def hanging() -> Iterator[str]:
    """The address of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def babbling() -> Iterator[str]:
    """The address of a server that answers whatever it is told with bytes that mean nothing."""
    noise = random.Random(0).randbytes(4096)

    class Babble(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(noise)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Babble) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def refusing() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _bad_server(**faults: Any) -> Callable[[], AbstractContextManager[str]]:
    @contextmanager
    def serving() -> Iterator[str]:
        with Server(**faults).serving() as server:
            yield server.url

    return serving


BAD_ADDRESSES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "refuses connections": lambda: contextlib.nullcontext(refusing()),
    "hangs": hanging,
    "is slow": _bad_server(delay=30.0),
    "answers garbage": babbling,
    "refuses the key": _bad_server(status=401),
    "dies in mid-run": _bad_server(dies=True),
    "rejects uploads": _bad_server(upload_status=403),
    "crashes the service": _bad_server(crash=True),
}
"""Ways in which a server can fail; each gives its address for as long as it is entered."""


def forget_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No key, no netrc and no W&B variable of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "config"))
