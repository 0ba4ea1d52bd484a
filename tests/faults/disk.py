"""A results folder that is full, read-only or closed: one clear line, nothing half-written, and on it goes later."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.harness import Launched, Results, Row, Watch, compare, finished, run, until


def can_mount() -> bool:
    """Only root can, and not in every container."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with tmpfs(Path(name) / "disk", "size=64k"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full(row: Row, limit: str, sweep: Path, untouched: Results, folder: Path) -> None:
    """One sweep on a small file system (limit: mount options): it stops, and goes on once there is room."""
    row.tries += 1
    with tmpfs(folder / f"{limit.partition('=')[0]}-{row.tries}", limit) as disk:
        results = disk / "results"
        watch = Watch(results, row)
        stopped = run(sweep, results, "--checkpoint-seconds", "0.05")
        output = stopped.stdout + stopped.stderr
        if not finished(stopped.returncode, output):
            _stopped_well(row, stopped.returncode, stopped.stderr, "No space left on device")
        watch.look()
        _nothing_half_written(row, results)
        _remount(disk, "size=64m,nr_inodes=100000")
        _goes_on(row, sweep, results, untouched, watch)


def closed(row: Row, sweep: Path, untouched: Results, folder: Path, rng: random.Random) -> None:
    """Permissions are taken away in mid-run."""
    row.tries += 1
    results = folder / f"closed-{row.tries}" / "results"
    results.parent.mkdir(parents=True)
    watch = Watch(results, row)
    launched = Launched(sweep, results, "--checkpoint-seconds", "0.05")
    try:
        enough = rng.randrange(1, 6)
        until(lambda: watch.look() >= enough or launched.process.poll() is not None)
        folders = [results, *(path for path in results.rglob("*") if path.is_dir())]
        _permit(folders, False)
        try:
            output = launched.wait()
        finally:
            _permit([path for path in folders if path.exists()], True)
    finally:
        launched.end()
    if not finished(launched.process.returncode, output):
        lines = [line for line in output.splitlines() if line.startswith("error:")]
        _stopped_well(row, launched.process.returncode, "\n".join(lines), "not permitted", "denied")
        row.expect("Traceback" not in output, f"{results}: a stack trace:\n{output[-1500:]}")
    watch.look()
    _goes_on(row, sweep, results, untouched, watch)


def read_only(row: Row, sweep: Path, folder: Path) -> Row:
    """Read-only from the start."""
    row.tries += 1
    with tmpfs(folder / "read-only", "size=8m") as disk:
        _remount(disk, "ro")
        refused = run(sweep, disk / "results")
        _stopped_well(row, refused.returncode, refused.stderr, "Read-only file system")
    return row


def _permit(folders: list[Path], allowed: bool) -> None:
    """Root may write anywhere but where a folder is immutable."""
    if os.geteuid() == 0:
        subprocess.run(["chattr", "-i" if allowed else "+i", *map(str, folders)], check=False, capture_output=True)
        return
    for folder in folders if allowed else reversed(folders):
        folder.chmod(0o755 if allowed else 0o555)


def _stopped_well(row: Row, code: int, errors: str, *words: str) -> None:
    lines = errors.strip().splitlines()
    row.expect(code == 2, f"exit code {code}, expected 2: {errors[-500:]}")
    row.expect(
        len(lines) == 1 and lines[0].startswith("error:") and any(word in lines[0] for word in words),
        f"not one clear line: {errors[-1500:]}",
    )


def _nothing_half_written(row: Row, results: Path) -> None:
    left = [path for path in results.rglob("*.tmp")]
    row.expect(not left, f"left half-written: {left[:3]}")


def _goes_on(row: Row, sweep: Path, results: Path, untouched: Results, watch: Watch) -> None:
    again = run(sweep, results)
    row.expect(finished(again.returncode, again.stdout + again.stderr), f"did not go on: {again.stderr[-1000:]}")
    watch.look()
    compare(row, results, untouched)
