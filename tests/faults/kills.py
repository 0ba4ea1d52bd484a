"""SIGKILL at random moments: of workers, of the fork server, of the sweep, of everything at once."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from pathlib import Path

from tests.faults.harness import Launched, Results, Row, Watch, compare, finished, kill, until

CHECKPOINT_SECONDS = (0.0, 0.02, 0.2, 60.0)
ROUND_SECONDS = 1800.0
PER_ROUND = 25
"""After so many kills a round is left to end, so that its records can be compared."""
IN_TRAINING = 0.85
"""Share of the kills that wait until a worker trains; the others fall on whatever goes on."""
MOMENT_SECONDS = 2.0
START_SECONDS = 60.0


class Chances:
    """Random numbers by what they are for, so that the tenth kill does the same however often it missed before."""

    def __init__(self, seed: str):
        self._seed = seed
        self._counts: Counter[str] = Counter()

    def next(self, purpose: str) -> random.Random:
        self._counts[purpose] += 1
        return random.Random(f"{self._seed} {purpose} {self._counts[purpose]}")


def kill_rounds(row: Row, victim: str, kills: int, sweep: Path, untouched: Results, folder: Path, seed: str) -> None:
    """Run the sweep again and again under fire, in fresh folders, until `kills` processes were killed; compare each."""
    number, chances = 0, Chances(f"{seed} {victim}")
    while row.tries < kills:
        results = folder / f"{victim}-{number}" / "results"
        results.parent.mkdir(parents=True)
        _one_round(row, victim, min(kills, row.tries + PER_ROUND), sweep, results, chances)
        compare(row, results, untouched)
        number += 1


def _one_round(row: Row, victim: str, until_tries: int, sweep: Path, results: Path, chances: Chances) -> None:
    watch = Watch(results, row)
    deadline = time.monotonic() + ROUND_SECONDS
    while True:
        seconds = chances.next("launch").choice(CHECKPOINT_SECONDS)
        launched = Launched(sweep, results, "--checkpoint-seconds", str(seconds))
        try:
            while launched.process.poll() is None and row.tries < until_tries:
                if time.monotonic() > deadline:
                    row.add_wrong(f"{results}: no end within {ROUND_SECONDS:g} s of kills")
                    return
                _strike(row, victim, results, launched, chances.next("strike"))
                watch.look()
            output = launched.wait()
        finally:
            launched.end()
        watch.look()
        if finished(launched.process.returncode, output):
            return
        row.expect("Traceback (most recent call last)" not in output, f"{results}: a stack trace:\n{output[-1500:]}")
        if row.tries >= until_tries and launched.process.returncode not in (1, -9):
            row.add_wrong(f"{results}: exit code {launched.process.returncode}:\n{output[-1500:]}")
            return


def _strike(row: Row, victim: str, results: Path, launched: Launched, rng: random.Random) -> None:
    """Wait a random moment and kill a victim, if there is one by then: mostly in training, at times while it starts."""
    training, moment, choice = rng.random() < IN_TRAINING, rng.uniform(0.0, MOMENT_SECONDS), rng.random()
    if training:
        until(lambda: launched.process.poll() is not None or _training(results, launched), START_SECONDS)
    time.sleep(moment)
    processes = launched.processes()
    if victim == "worker":
        targets = (_training(results, launched) if training else []) or processes["workers"]
        targets = targets[int(choice * len(targets)) :][:1]
    elif victim == "everything":
        targets = [pid for pids in processes.values() for pid in pids]
    else:
        targets = processes[victim]
    if launched.process.poll() is None and any([kill(pid) for pid in targets]):
        row.tries += 1


def _training(results: Path, launched: Launched) -> list[int]:
    """The workers of this sweep that hold a claim."""
    holders = set()
    for claim in results.glob("claims/*/*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            holders.add(json.loads(claim.read_text())["pid"])
    return [pid for pid in launched.processes()["workers"] if pid in holders] if holders else []
