"""A worker trains cells on one machine: a cell goes in, a record comes out.

It does not know where it runs: a local pool, a SLURM task and a test all call `Worker.run`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from benchmark.cells import Cell, Problem
from benchmark.errors import CannotGoOn, UserError
from benchmark.methods import declaration, load, settings_of
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.recording import make_record
from benchmark.results import atomic, outside
from benchmark.results.locks import Locks
from benchmark.results.provenance import made_by, provenance
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.training import checkpoint, given, latency
from benchmark.training.compiled import check_compile
from benchmark.training.group import ALONE, Group, synchronise_batch_norm
from benchmark.training.loop import Run
from benchmark.training.options import RunOptions
from benchmark.training.precision import prepare_device
from benchmark.training.session import Interrupted, Session

PARENTS = 2
"""Dense networks that a worker keeps in memory; cells of one seed follow each other."""
INSTRUCTIONS = (
    "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR",
)  # fmt: skip
"""Variables that leave a part of the processor's instructions unused, so that sums are rounded in another order."""

Report = Callable[[int, dict[str, float]], None]
"""Called at every epoch with the iterations done and the latest row of the history."""
Outcome = Literal["done", "already done", "held by another"]


class ParentMissing(Exception):
    """The dense network that a cell starts from is missing or cannot be used."""


def pick_device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@dataclass(frozen=True)
class Parent:
    """Record and weights of a dense run. files: (inode, size, time) of the two files when they were checked."""

    record: Record
    weights: dict[str, torch.Tensor]
    files: tuple[tuple[int, int, int], ...]


class Worker:
    """Trains cells one after the other, and keeps the data and dense networks that the next cell may need."""

    def __init__(self, store: Store, options: RunOptions | None = None, group: Group = ALONE):
        self.store, self.group = store, group
        self.options = options or RunOptions()
        self.locks = Locks()
        self.device = pick_device(self.options.device)
        if group.ranks > 1 and self.device.type == "cuda":
            self.device = torch.device("cuda", group.local_rank)
            torch.cuda.set_device(self.device)
        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        self._data: tuple[Problem, Batches] | None = None
        self._compiled: tuple[Problem, nn.Module] | None = None
        self._parents: dict[str, Parent] = {}

    def data(self, problem: Problem) -> Batches:
        """The problem's data, kept for the next cell."""
        if self._data is None or self._data[0] != problem:
            self._data = (problem, self._open_data(problem))
        return self._data[1]

    def _open_data(self, problem: Problem) -> Batches:
        try:
            prepare_device(problem, self.device, self.options.alone)
            check_compile(problem, self.group)
            shard = (self.group.rank, self.group.ranks)
            data = open_data(problem, self.device, self.options.data, shard, self.store.given)
            first = self.store.pin(f"data-{problem.identity}", data.fingerprint)
        except UserError as error:
            raise CannotGoOn(str(error)) from None
        if first != data.fingerprint:
            by_user = problem.dataset in problem.outside
            asked = " (benchmark.check tells whether the function gives the same each time)" if by_user else ""
            raise CannotGoOn(
                f"problem {problem.name}: the data changed since {self.store.path} was begun (fingerprint {first}, now "
                f"{data.fingerprint}): use the data it was begun with, or another --results folder{asked}"
            )
        return data

    def run(
        self, cell: Cell, report: Report = lambda done, values: None, should_stop: Callable[[], bool] = lambda: False
    ) -> Outcome:
        """Train `cell`, unless it has a record or another process trains it. Raises what training raises.

        An unreadable record is set aside; the new one says so.
        """
        if self.store.has(cell.id) and not self.store.is_damaged(cell.id):
            return "already done"
        lock = self.locks.take(self.store.file("claims", cell.id))
        if lock is None:
            return "held by another"
        try:
            aside = None
            if self.store.has(cell.id):  # looked at with the lock: another process may just have replaced it
                if not self.store.is_damaged(cell.id):
                    return "already done"
                aside = self.store.set_aside(self.store.record_path(cell.id))
            self.group.announce(cell)
            return "done" if self._train(cell, report, should_stop, aside) else "already done"
        except Exception:
            self._compiled = None  # a method may have left it half changed
            if self.store.read(cell.id) is not None:  # another process took over the lock and finished the cell
                return "already done"
            raise
        finally:
            lock.release()

    def follow(self) -> None:
        """As a rank above 0: train the cells that rank 0 announces, until it announces None or is asked to stop."""
        try:
            while (cell := self.group.announce(None)) is not None:
                self._train(cell, lambda done, values: None, lambda: False)
        except Interrupted:
            return

    def _train(
        self,
        cell: Cell,
        report: Report,
        should_stop: Callable[[], bool],
        aside: Path | None = None,
    ) -> bool:
        """True if the cell now has this run's record, False if another was first. aside: its damaged record."""
        started, start_time = time.perf_counter(), datetime.now(UTC)
        maker = made_by(cell.problem.loader, cell.problem.model, outside.sources(cell))  # before that code is imported
        run, parent = self._make_run(cell)
        run.session = Session(
            checkpoints=checkpoint.Checkpoints(self.store.file("checkpoints", cell.id), cell.id, maker),
            trunks=checkpoint.Trunks(self.store.path / "trunks", maker),
            parent=parent["weights_sha256"] if parent else "",
            report=report,
            should_stop=should_stop,
            began=started,
        )
        run.execute()
        if not self.group.leads:
            return False
        return self._commit(run, parent, start_time, aside)

    def train_again(self, cell: Cell) -> Run:
        """Train a cell whether or not it has a record, from its start to its end, and write nothing."""
        run, _ = self._make_run(cell)
        run.execute()
        return run

    def _make_run(self, cell: Cell) -> tuple[Run, Record | None]:
        """The run of a cell, which saves nothing as it is, and the record of the dense run that it starts from."""
        data = self.data(cell.problem)
        network = self._network(cell)
        parent = self._load_parent(cell, network) if declaration(cell.method).from_dense else None
        run = Run(
            cell,
            network,
            data,
            load(cell.method),
            settings_of(cell),
            options=self.options,
            group=self.group,
            start_position=cell.problem.epochs * data.iterations_per_epoch if parent else 0,
        )
        if cell.is_dense and cell.problem.weights:  # nothing to train, but to measure
            self._load_given(cell.problem, network)
            run.method.phases = 0
        return run, parent

    def _network(self, cell: Cell) -> nn.Module:
        """The cell's network with its initial weights.

        Where training is compiled, the network of the cell before is used again, with these weights: CUDA graphs know
        weights by their addresses, and torch stops making new graphs after some dozens of networks. So such a network
        has to keep its state in its parameters and buffers.
        """
        network = synchronise_batch_norm(models.build(cell.problem, cell.seed).to(self.device), self.group)
        if cell.problem.compile == "none":
            return network
        if self._compiled is None or self._compiled[0] != cell.problem:
            self._compiled = (cell.problem, network)
        kept = self._compiled[1]
        kept.load_state_dict(network.state_dict())
        kept.zero_grad()
        return kept.train()

    def _load_given(self, problem: Problem, network: nn.Module) -> None:
        try:
            given.load(network, problem, self.store.given)
        except UserError as error:
            raise CannotGoOn(str(error)) from None

    def _commit(self, run: Run, parent: Record | None, start_time: datetime, aside: Path | None) -> bool:
        """Write the record of a finished run. True if it is the cell's first."""
        cell, network, data, progress = run.cell, run.network, run.data, run.progress
        smaller, checkpoints = run.method.smaller(), run.session.checkpoints
        assert checkpoints is not None
        record = make_record(cell, run, parent, smaller)
        if cell.is_dense:
            if record["status"] == "collapsed":
                raise ArithmeticError(f"the dense run collapsed ({'; '.join(record['remarks'])})")
            content, record["weights_sha256"] = checkpoint.encode(cell.id, network.state_dict())
            atomic.replace_file(self.store.weights_path(cell.id, record["weights_sha256"]), content)
        elif self.options.keep == "weights":
            about = {"id": cell.id, "parameters_sha256": record["parameters_sha256"]}
            atomic.replace_file(self.store.kept_path(record), checkpoint.safe(network.state_dict(), about))
        compared = None if smaller is None else latency.compare(network, smaller, data)
        record["seconds"] = {**run.session.seconds(run), **({} if compared is None else {"latency": compared})}
        record["images_per_second"] = progress.images / max(progress.seconds["training"], 1e-9)
        record["provenance"] = {
            **provenance(),
            **({"outside": sources} if (sources := outside.sources(cell)) else {}),
            "data": data.fingerprint,
            "data_remarks": list(data.remarks),
            "device": self.device.type,
            "device_name": device_name(self.device),
            "ranks": self.group.ranks,
            "threads": torch.get_num_threads(),
            "start": start_time.isoformat(timespec="milliseconds"),
            "end": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "refused_checkpoints": checkpoints.refused,
            **({} if aside is None else {"set_aside": str(aside)}),
        }
        is_first = self.store.commit(record) is record
        checkpoints.clear()
        return is_first

    def _load_parent(self, cell: Cell, network: nn.Module) -> Record:
        """Load the dense weights of the cell's seed into `network`; returns the dense record. Keeps both in memory."""
        dense = Cell.dense(cell.problem, cell.seed)
        parent = self._parents.get(dense.id)
        if parent is None or parent.files != self._parent_files(dense.id, parent.record):
            parent = self._parents[dense.id] = self._read_parent(dense)
            for oldest in list(self._parents)[:-PARENTS]:
                del self._parents[oldest]
        trained_on, present = parent.record["provenance"]["data"], self.data(cell.problem).fingerprint
        if trained_on != present:
            raise UserError(
                f"the dense run {dense.id} was trained on other data (fingerprint {trained_on}, here {present}): "
                "use its --data, or another --results folder"
            )
        network.load_state_dict(parent.weights)
        return parent.record

    def _read_parent(self, dense: Cell) -> Parent:
        record = self.store.read(dense.id)
        if record is None:
            exists = self.store.has(dense.id)
            problem = f"; {self.store.problems[-1]}; the sweep's --repair trains it again" if exists else ""
            raise ParentMissing(f"no usable record of the dense run {dense.id}{problem}")
        try:
            path = self.store.weights_path(dense.id, record["weights_sha256"])
            files = self._parent_files(dense.id, record)
            weights, checksum = checkpoint.load(path, dense.id, self.device)
        except (checkpoint.BadCheckpoint, OSError) as error:
            raise ParentMissing(f"the weights of the dense run {dense.id} cannot be used: {error}") from None
        if checksum != record["weights_sha256"]:
            raise ParentMissing(f"the weights of the dense run {dense.id} are not those that its record names")
        return Parent(record, weights, files)

    def _parent_files(self, dense_id: str, record: Record) -> tuple[tuple[int, int, int], ...]:
        """(inode, size, time) of record and weights, which change when a file is replaced; empty if one is gone."""
        paths = (self.store.record_path(dense_id), self.store.weights_path(dense_id, record["weights_sha256"]))
        try:
            return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in map(Path.stat, paths))
        except OSError:
            return ()


def device_name(device: torch.device) -> str:
    """Of the GPU or the processor, as records have it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    limits = [f"{name}={os.environ[name]}" for name in INSTRUCTIONS if os.environ.get(name)]
    name = _processor() or platform.processor() or platform.machine()
    return f"{name} ({' '.join(limits)})" if limits else name


def _processor() -> str:
    """Model of the CPU as Linux names it, "" elsewhere. Another model rounds sums in another order."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if not fields.get("model name"):
        return ""
    return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
