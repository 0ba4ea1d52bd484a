"""Where a number comes from: commit, code, versions, machine. Imports no torch and reads no secrets."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DECIDING = ("cells.py", "methods", "metric.py", "problems", "pruning", "recording.py", "tasks", "training", "worker.py")
"""What of benchmark/ decides results; launchers, tracking and analysis do not."""
DALI = ("nvidia-dali-cuda120", "nvidia-dali-cuda130")
PACKAGES = (
    "torch", "torchvision", "numpy", "scikit-learn", "pillow", "sacrebleu", "torch-pruning", "transformers", *DALI
)  # fmt: skip
GIT_SECONDS = 20


@lru_cache(maxsize=1)
def commit() -> tuple[str | None, bool | None]:
    """(commit of the suite's own repository, whether tracked files differ from it); None where git names no such one.

    Not that of a repository around a copy of the suite, nor that of GIT_DIR, which every git hook sets. Nothing that a
    repository's settings name is run, and nothing is written into it.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> bytes:
        command = ["git", "-C", str(ROOT), "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
        done = subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS, env=variables)  # noqa: S603
        return done.stdout.removesuffix(b"\n")

    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), ROOT):
            return None, None
        git("ls-files", "--error-unmatch", "benchmark/cells.py")  # not in a repository around a copy of the suite
        return git("rev-parse", "HEAD").decode(), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Hash of the source files that decide results."""
    content = hashlib.sha256()
    here = ROOT / "benchmark"
    for name in DECIDING:
        for path in sorted((here / name).rglob("*.py")) if (here / name).is_dir() else [here / name]:
            content.update(str(path.relative_to(here)).encode())
            content.update(path.read_bytes())
    return content.hexdigest()[:16]


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    by_name = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return by_name


def made_by(loader: str = "torch", model: str = "t5", outside: Mapping[str, str] | None = None) -> str:
    """Code and versions in a word: what has to be the same for a run with this `loader` and `model` to go on exactly.
    A package that it does not use may be installed in between.

    outside: hashes of the code that its cell names (`benchmark.results.outside.sources`).
    """
    unused = {*(() if loader == "dali" else DALI), *(() if model == "t5" else ("transformers",))}
    needed = {name: version for name, version in versions().items() if name not in unused}
    needed |= outside or {}
    return " ".join([code_hash(), *(f"{name}={version}" for name, version in sorted(needed.items()))])


def provenance() -> dict[str, Any]:
    """What a record says of code and machine; the worker adds device, data and times."""
    name, dirty = commit()
    return {
        "commit": name,
        "dirty": dirty,
        "code": code_hash(),
        "versions": versions(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
    }
