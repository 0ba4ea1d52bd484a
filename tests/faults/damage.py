"""Damaged, truncated and foreign files: checkpoints, records and dense weights, at every kind of position."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.planning.finished import FinishedCells
from benchmark.planning.grid import load_sweep
from benchmark.results.records import result
from benchmark.results.store import Store
from benchmark.training import checkpoint
from benchmark.training.options import RunOptions
from benchmark.training.session import Interrupted
from benchmark.worker import Worker
from tests.faults.harness import IMP_GRID, Row, compare, results_of, write_sweep

Damage = Callable[[bytes, random.Random], bytes]
OPTIONS = RunOptions("cpu", 1)
OFTEN = RunOptions("cpu", 1, checkpoint_seconds=0.0)
"""A checkpoint at every iteration, which takes longer than the training."""


def _flip(content: bytes, position: int, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _in_header(content: bytes, rng: random.Random) -> bytes:
    """A bit of the envelope before the checksum's digits."""
    return _flip(content, rng.randrange(content.index(b'"sha256"')), rng)


def _in_checksum(content: bytes, rng: random.Random) -> bytes:
    return _flip(content, content.index(b'"sha256": "') + 11 + rng.randrange(64), rng)


def _in_body(content: bytes, rng: random.Random) -> bytes:
    """A bit of the tensors, or of the record itself."""
    start = content.index(b"\n") + 1
    return _flip(content, start + rng.randrange(len(content) - start - 3), rng)


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _of_zeros(content: bytes, rng: random.Random) -> bytes:
    """What some file systems leave after a power cut."""
    return bytes(len(content))


DAMAGES: dict[str, Damage] = {
    "truncated": _truncated,
    "bit flipped in header": _in_header,
    "bit flipped in checksum": _in_checksum,
    "bit flipped in body": _in_body,
    "zeros": _of_zeros,
}


SHORT = {"epochs": 3, "milestones": [1, 2], "batch_size": 128}


class Bench:
    """A few small cells trained in this process, and their results when nothing disturbs them."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sweep = load_sweep(str(write_sweep(folder / "small.yaml", [IMP_GRID], seeds=1, **SHORT)))
        self.cells = [Cell.dense(sweep.problem, 0), *sweep.cells]
        self.untouched = self._train(Store(folder / "untouched"))
        self._number = 0

    def _train(self, store: Store) -> dict[str, Any]:
        worker = Worker(store, OPTIONS)
        for cell in self.cells:
            worker.run(cell)
        return results_of(store.path)

    def store(self) -> Store:
        self._number += 1
        return Store(self.folder / f"damaged-{self._number}")

    def finished(self) -> Store:
        """A store in which all cells are done."""
        store = self.store()
        shutil.copytree(self.folder / "untouched", store.path)
        return store

    def interrupted(self, iteration: int) -> tuple[Store, Path]:
        """A store whose dense run was stopped before an iteration, and the newest checkpoint."""
        store = self.store()
        asked = iter(range(10**9))
        with contextlib.suppress(Interrupted):
            Worker(store, OFTEN).run(self.cells[0], should_stop=lambda: next(asked) >= iteration)
        found = store.file("checkpoints", self.cells[0].id).glob("*.pt")
        return store, max(found, key=lambda path: int(path.stem))


def damaged_checkpoints(bench: Bench, rng: random.Random, tries: int) -> list[Row]:
    rows = []
    for name, damage in DAMAGES.items():
        row = Row(f"checkpoint: {name}")
        for _ in range(tries):
            _one_checkpoint(row, bench, rng, lambda path, damage=damage: damage(path.read_bytes(), rng))
        rows.append(row)
    foreign: dict[str, Callable[[Path], bytes]] = {
        "of another cell": lambda path: checkpoint.encode("another-cell", {"network": {}})[0],
        "of other code": lambda path: checkpoint.encode(path.parent.name, {"network": {}}, "other code")[0],
        "of a later schema": lambda path: path.read_bytes().replace(b'"schema": 1', b'"schema": 2', 1),
        "a pickle that runs code": lambda path: _trap(path, bench.folder / "sprung"),
    }
    for name, make in foreign.items():
        row = Row(f"checkpoint: {name}")
        for _ in range(tries):
            _one_checkpoint(row, bench, rng, make)
        row.expect(not (bench.folder / "sprung").exists(), "a pickle from the results folder was run")
        rows.append(row)
    return rows


def _one_checkpoint(row: Row, bench: Bench, rng: random.Random, make: Callable[[Path], bytes]) -> None:
    row.tries += 1
    store, newest = bench.interrupted(rng.randrange(3, 20))
    before = newest.read_bytes()
    content = make(newest)
    newest.write_bytes(content)
    cell = bench.cells[0]
    Worker(store, OPTIONS).run(cell)
    record = store.read(cell.id)
    if record is None:
        row.add_lost(f"{store.path}: no record")
        return
    row.expect(result(record) == bench.untouched[cell.id], f"{store.path}: the result differs")
    refused = record["provenance"]["refused_checkpoints"]
    named = [line for line in refused if str(newest) in line and "\n" not in line]
    row.expect(named or content == before, f"{store.path}: not refused in one line: {refused}")


def _trap(path: Path, canary: Path) -> bytes:
    """A checkpoint of the right cell, code and checksum that holds a call."""

    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(canary), "w")

    buffer = io.BytesIO()
    torch.save({"network": Trap()}, buffer, pickle_module=pickle)
    head = json.loads(path.read_bytes().partition(b"\n")[0])
    content = checkpoint.encode(head["owner"], {}, head["made_by"])[0].partition(b"\n")[0]
    empty = json.loads(content)
    empty["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    return json.dumps(empty).encode() + b"\n" + buffer.getvalue()


def damaged_results(bench: Bench, rng: random.Random, tries: int) -> list[Row]:
    """Records and dense weights: named, never used, and trained again with --repair."""
    rows = []
    for kind, pattern in (("record", "records/*/*.json"), ("weights", "weights/*/*.pt")):
        for name, damage in DAMAGES.items():
            row = Row(f"{kind}: {name}")
            for _ in range(tries):
                _one_result(row, bench, rng, pattern, damage)
            rows.append(row)
    return rows


def _one_result(row: Row, bench: Bench, rng: random.Random, pattern: str, damage: Damage) -> None:
    row.tries += 1
    store = bench.finished()
    store.record_path(bench.cells[-1].id).unlink()  # one is left, so that the dense weights are still needed
    path = rng.choice(sorted(store.path.glob(pattern)))
    path.write_bytes(damage(path.read_bytes(), rng))
    try:
        FinishedCells(bench.cells, store).refuse_damaged(repair=False)
        row.expect(_unchanged(store, path), f"{path}: the damage went unnoticed")
    except UserError as error:
        row.expect(str(path) in str(error) and "\n" not in str(error), f"{path}: said {error}")
    FinishedCells(bench.cells, store).refuse_damaged(repair=True)
    for cell in bench.cells:
        Worker(store, OPTIONS).run(cell)
    compare(row, store.path, bench.untouched)


def _unchanged(store: Store, path: Path) -> bool:
    """A bit of white space, or of the name of who wrote a file, says nothing: what it holds is what it was."""
    if path.suffix == ".json":
        return store.read(path.stem) is not None
    return store.weights_problem(store.read(path.name.rpartition(".")[0].rpartition(".")[0]) or {}) is None
