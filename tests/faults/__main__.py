"""`python -m tests.faults`: do every fault many times and print what was lost, doubled or wrong.

Which process is killed and after how long, what is damaged and where, all comes from the seed. When the machine gets
there does not: the same seed does the same things to a slightly different run.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.faults import cells, damage, disk, kills, sharing
from tests.faults.harness import IMP_GRID, Row, every_method, untouched, write_sweep
from tests.faults.soak import soak

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
SHARES = {"worker": 0.5, "sweep": 0.2, "server": 0.1, "everything": 0.2}
"""What is killed: a worker, the sweep, the server that workers are forked from, or all processes at once."""


class Table:
    """Prints each row as it is done; the exit code is 1 if anything was lost, doubled or wrong."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.started = time.monotonic()
        print(f"{'fault':<44}{'tries':>7}{'lost':>7}{'doubled':>9}{'wrong':>7}", flush=True)

    def add(self, *rows: Row) -> None:
        for row in rows:
            self.rows.append(row)
            print(f"{row.fault:<44}{row.tries:>7}{row.lost:>7}{row.doubled:>9}{row.wrong:>7}", flush=True)
            for note in row.notes[:10]:
                print(f"    {note}", flush=True)

    def end(self) -> int:
        minutes = (time.monotonic() - self.started) / 60
        total = Row("total")
        for row in self.rows:
            total.tries += row.tries
            total.lost += row.lost
            total.doubled += row.doubled
            total.wrong += row.wrong
        self.add(total)
        print(f"{minutes:.1f} minutes")
        return 1 if total.lost or total.doubled or total.wrong else 0


@app.command()
def faults(
    seed: Annotated[int, typer.Option(help="Of every random choice")] = 0,
    kills_: Annotated[int, typer.Option("--kills", help="Processes to kill")] = 200,
    short: Annotated[bool, typer.Option("--short", help="A minute or two of everything")] = False,
    soak_: Annotated[int, typer.Option("--soak", help="Train so many tiny cells under fire, and nothing else")] = 0,
    only: Annotated[str, typer.Option(help="Parts, of kills,damage,cells,disk,sharing")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder, also if all is well")] = False,
) -> int:
    """Do every fault many times, on digits sweeps with 2 workers, and print what was lost, doubled or wrong."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"seed {seed}, in {folder}", flush=True)
    table = Table()
    if soak_:
        row, lines = soak(soak_, folder, random.Random(seed))
        table.add(row)
        print("\n".join(lines))
    else:
        wanted = only.split(",") if only else ["kills", "damage", "cells", "disk", "sharing"]
        _run(table, wanted, folder, seed, 8 if short else kills_, short)
    code = table.end()
    if code == 0 and not keep:
        shutil.rmtree(folder)
    return code


def _run(table: Table, wanted: list[str], folder: Path, seed: int, count: int, short: bool) -> None:
    if "damage" in wanted:
        bench = damage.Bench(folder / "damage")
        rng = random.Random(f"{seed} damage")
        table.add(*damage.damaged_checkpoints(bench, rng, 1 if short else 10))
        table.add(*damage.damaged_results(bench, rng, 1 if short else 10))
    if "cells" in wanted:
        table.add(*cells.failing_cells(folder, untouched(cells.neighbours(folder), folder / "neighbours")))
        table.add(cells.nan_in_training(folder), cells.workers_that_cannot_start(folder))
    sweep = write_sweep(folder / "sweep.yaml", [IMP_GRID] if short else every_method(), seeds=1)
    if not {"kills", "disk", "sharing"} & set(wanted):
        return
    reference = untouched(sweep, folder / "untouched")
    if "kills" in wanted:
        for victim, share in SHARES.items():
            row = Row(f"SIGKILL of {victim}")
            rng = random.Random(f"{seed} {victim}")
            kills.kill_rounds(row, victim, max(1, round(share * count)), sweep, folder, reference, rng)
            table.add(row)
    if "disk" in wanted:
        _disk(table, sweep, folder, reference, seed, 1 if short else 5)
    if "sharing" in wanted:
        _sharing(table, sweep, folder, reference, random.Random(f"{seed} sharing"), short)


def _disk(table: Table, sweep: Path, folder: Path, reference: dict[str, Any], seed: int, tries: int) -> None:
    if disk.can_mount():
        full, inodes = Row("disk full (tmpfs)"), Row("no more files (tmpfs)")
        for number in range(tries):
            name = f"{seed} disk {number}"
            disk.full(full, lambda rng: f"size={rng.randrange(60, 500)}k", sweep, folder, reference, name)
            disk.full(
                inodes, lambda rng: f"nr_inodes={rng.randrange(12, 70)}", sweep, folder, reference, f"{name} inodes"
            )
        row = Row("read-only from the start")
        disk.read_only(row, sweep, folder)
        table.add(full, inodes, row)
    else:
        print("(a full and a read-only disk need root, to mount a tmpfs)")
    row = Row("permissions taken away in mid-run")
    rng = random.Random(f"{seed} closed")
    for _ in range(tries):
        disk.closed(row, sweep, folder, reference, rng)
    table.add(row)


def _sharing(
    table: Table, sweep: Path, folder: Path, reference: dict[str, Any], rng: random.Random, short: bool
) -> None:
    for count in (2,) if short else (2, 4):
        row = Row(f"{count} sweeps at once")
        for _ in range(1 if short else 3):
            sharing.at_once(row, count, sweep, folder, reference, rng)
        table.add(row)
    if short:
        return
    dies, frozen, clock = Row("one of two sweeps dies"), Row("a worker frozen, taken over, woken"), Row("clock set")
    for _ in range(3):
        sharing.one_dies(dies, sweep, folder, reference, rng)
        sharing.clock_set(clock, sweep, folder, reference, rng)
    sharing.one_freezes(frozen, sweep, folder, reference)
    table.add(dies, frozen, clock)


if __name__ == "__main__":
    sys.exit(app(standalone_mode=False))
