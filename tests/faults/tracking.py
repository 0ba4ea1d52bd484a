"""W&B's server hangs, answers garbage, refuses the key, is slow, is not there or goes away: no cell notices."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.faults.cells import SECRETS
from tests.faults.harness import PATIENCE, ROOT, Results, Row, compare, environment, finished, run
from tests.wandb_server import BAD_ADDRESSES, KEY, Server


def bad_address(name: str, sweep: Path, untouched: Results, folder: Path) -> Row:
    """A sweep whose W&B server fails, and then `benchmark.publish` with one that does not.

    Lost: a run that the good server never got. Doubled: one that it got twice.
    """
    row = Row(f"W&B: {name}", tries=1)
    results = folder / f"tracking-{name.replace(' ', '-')}" / "results"
    with BAD_ADDRESSES[name]() as url:
        there = {**SECRETS, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}
        done = run(sweep, results, "--tracking", "auto", **there)
    output = done.stdout + done.stderr
    row.expect(finished(done.returncode, output), f"exit code {done.returncode}: {output[-1000:]}")
    row.expect("Traceback" not in output, f"a stack trace: {output[-1000:]}")
    said = "kept offline" in output or "not published" in output  # the latter where the server used up the time for it
    row.expect(said, f"the sweep does not say what came of W&B: {output[-1000:]}")
    compare(row, results, untouched)
    with Server().serving() as server:
        _publish(row, results, server)
        created = Counter(server.created)
    for cell_id in untouched:
        if (received := server.runs.get(cell_id[-12:])) is None:
            row.add_lost(f"no run of {cell_id}")
            continue
        row.expect(received.finished, f"the run of {cell_id} was never finished")
        if created[cell_id[-12:]] > 1:
            row.add_doubled(f"{created[cell_id[-12:]]} runs of {cell_id}")
    row.expect(len(created) == len(untouched), f"{len(created)} runs of {len(untouched)} cells")
    contents = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for secret in (KEY, *SECRETS.values()):
        row.expect(secret not in output, "a secret was printed")
        for path, content in contents.items():
            row.expect(secret.encode() not in content, f"a secret is in {path}")
    return row


def _publish(row: Row, results: Path, server: Server) -> None:
    published = subprocess.run(
        [sys.executable, "-m", "benchmark.publish", "--results", str(results), "--per-minute", "6000"],
        cwd=ROOT,
        env={**environment(), "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    row.expect(published.returncode == 0, f"publishing afterwards: {published.stdout}{published.stderr}")
