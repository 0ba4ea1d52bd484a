"""`python -m tests.faults`: do every fault many times and print what was lost, doubled or wrong.

Which process is killed and after how long, what is damaged and where, all comes from the seed. When the machine gets
there does not: the same seed does the same things to a slightly different run.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError
from tests.faults import cells, damage, disk, fuzz, kills, sharing, tracking
from tests.faults.harness import IMP_GRID, Results, Row, every_method, untouched, write_sweep
from tests.faults.soak import soak
from tests.faults.table import Table
from tests.wandb_server import BAD_ADDRESSES

app = cli.make_app()
SHARES = {"worker": 0.5, "sweep": 0.2, "server": 0.1, "everything": 0.2}
"""What is killed: a worker, the sweep, the server that workers are forked from, or all processes at once."""


@dataclass
class Ground:
    """What the faults are done to. tries: of most faults; kills: of all processes together; soak: tiny cells."""

    folder: Path
    seed: int
    kills: int
    soak: int
    tries: int
    short: bool

    def rng(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    @cached_property
    def bench(self) -> damage.Bench:
        return damage.Bench(self.folder / "damage")

    @cached_property
    def small(self) -> tuple[Path, Results]:
        """A sweep of a dense network and three that are pruned and retrained, and what comes of it undisturbed."""
        sweep = write_sweep(self.folder / "small.yaml", [IMP_GRID], seeds=1)
        return sweep, untouched(sweep, self.folder / "small-untouched")

    @cached_property
    def whole(self) -> tuple[Path, Results]:
        """The same with every method."""
        if self.short:
            return self.small
        sweep = write_sweep(self.folder / "whole.yaml", every_method(), seeds=1)
        return sweep, untouched(sweep, self.folder / "whole-untouched")


Section = Callable[[Ground], list[Row]]


def sections() -> dict[str, Section]:
    """By name; `--only` takes names and their beginnings."""
    return {
        "damage-checkpoints": lambda g: damage.damaged_checkpoints(g.bench, g.rng("checkpoints"), 2 * g.tries),
        "damage-results": lambda g: damage.damaged_results(g.bench, g.rng("results"), 2 * g.tries),
        "cells-failing": lambda g: cells.failing_cells(g.folder),
        "cells-nan": lambda g: [cells.nan_in_training(g.folder)],
        "cells-start": lambda g: [cells.workers_that_cannot_start(g.folder)],
        **{f"kills-{victim}": _kills(victim, share) for victim, share in SHARES.items()},
        **_disk(),
        **_sharing(),
        **{f"tracking-{name.replace(' ', '-')}": _tracking(name) for name in BAD_ADDRESSES},
        "fuzz": lambda g: [fuzz.row(name, 50 * g.tries, g.seed) for name in fuzz.PROPERTIES],
        "soak": lambda g: [soak(g.soak, g.folder, g.rng("soak"))],
    }


def _kills(victim: str, share: float) -> Section:
    def section(g: Ground) -> list[Row]:
        row = Row(f"SIGKILL of {victim}")
        kills.kill_rounds(row, victim, max(1, round(share * g.kills)), *g.whole, g.folder, str(g.seed))
        return [row]

    return section


def _disk() -> dict[str, Section]:
    def many(fault: str, once: Callable[[Row, Ground, random.Random], None]) -> Section:
        def section(g: Ground) -> list[Row]:
            row = Row(fault)
            for number in range(g.tries):
                once(row, g, g.rng(f"{fault} {number}"))
            return [row]

        return section

    def full(row: Row, g: Ground, rng: random.Random) -> None:
        disk.full(row, f"size={rng.randrange(60, 400)}k", *g.small, g.folder)

    def files(row: Row, g: Ground, rng: random.Random) -> None:
        disk.full(row, f"nr_inodes={rng.randrange(12, 60)}", *g.small, g.folder)

    def closed(row: Row, g: Ground, rng: random.Random) -> None:
        disk.closed(row, *g.small, g.folder, rng)

    taken = {"disk-closed": many("permissions taken away in mid-run", closed)}
    if not disk.can_mount():
        print("(a full and a read-only disk need root, to mount a tmpfs)")
        return taken
    return {
        "disk-full": many("disk full (tmpfs)", full),
        "disk-files": many("no more files (tmpfs)", files),
        "disk-read-only": lambda g: [disk.read_only(Row("read-only from the start"), g.small[0], g.folder)],
        **taken,
    }


def _sharing() -> dict[str, Section]:
    def many(fault: str, once: Callable[[Row, Ground, random.Random], None]) -> Section:
        def section(g: Ground) -> list[Row]:
            row, rng = Row(fault), g.rng(fault)
            for _ in range((g.tries + 1) // 2):
                once(row, g, rng)
            return [row]

        return section

    return {
        "sharing-two": many("2 sweeps at once", lambda row, g, rng: sharing.at_once(row, 2, *g.whole, g.folder, rng)),
        "sharing-four": many("4 sweeps at once", lambda row, g, rng: sharing.at_once(row, 4, *g.whole, g.folder, rng)),
        "sharing-dies": many(
            "one of two sweeps dies", lambda row, g, rng: sharing.one_dies(row, *g.whole, g.folder, rng)
        ),
        "sharing-clock": many("clock set", lambda row, g, rng: sharing.clock_set(row, *g.whole, g.folder, rng)),
        "sharing-frozen": lambda g: [
            sharing.one_freezes(Row("a worker frozen, taken over, woken"), *g.small, g.folder)
        ],
    }


def _tracking(name: str) -> Section:
    return lambda g: [tracking.bad_address(name, *g.small, g.folder)]


@app.command()
def faults(
    seed: Annotated[int, typer.Option(help="Of every random choice")] = 0,
    kills_: Annotated[int, typer.Option("--kills", help="Processes to kill")] = 200,
    soak_: Annotated[int, typer.Option("--soak", help="Tiny cells to train under fire")] = 2000,
    short: Annotated[bool, typer.Option("--short", help="A few minutes of everything")] = False,
    tries: Annotated[int, typer.Option(help="Of most other faults; of the fuzz fifty times as many")] = 5,
    only: Annotated[str, typer.Option(help="Sections, or how their names begin: kills,disk-full")] = "",
    rows: Annotated[Path | None, typer.Option(help="Keep finished rows here, and do not try again what it has")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder, also if all is well")] = False,
) -> int:
    """Do every fault many times, on digits sweeps with 2 workers, and print what was lost, doubled or wrong."""
    wanted = {name: work for name, work in sections().items() if not only or name.startswith(tuple(only.split(",")))}
    if not wanted:
        raise UserError(f"--only {only}: no section begins so; there are {', '.join(sections())}")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    kills_, soak_, tries = (8, 100, 1) if short else (kills_, soak_, tries)
    print(f"seed {seed}, in {folder}", flush=True)
    table = Table(rows)
    ground = Ground(folder, seed, kills_, soak_, tries, short)
    counts = {"kills": kills_, "soak": soak_}
    for name, work in wanted.items():
        settings = {"seed": seed, "short": short, "count": counts.get(name.partition("-")[0], tries)}
        table.section(name, settings, lambda work=work: work(ground))
    code = table.end()
    if code == 0 and not keep:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(cli.main(app))
