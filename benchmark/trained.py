"""The trained network of a finished cell: from the weights that were kept, or trained again to the same bits."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from benchmark.cells import Cell, cut
from benchmark.errors import UserError
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.pruning.filters import without_zeros
from benchmark.recording import parameters_hash
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.training import checkpoint
from benchmark.training.options import RunOptions
from benchmark.worker import ParentMissing, Worker

SHOWN = 3
"""Ids that an error names where many fit."""


class OtherResult(Exception):
    """This machine trains a cell to other weights than those of its record. The message is one line."""


@dataclass(frozen=True)
class Trained:
    """A finished cell.

    Args:
        cell: what was trained.
        record: of it.
        network: as it was trained, on the CPU, in evaluation.
        folder: of the images.
        given: of what came with weights that stand for the dense run.
    """

    cell: Cell
    record: Record
    network: nn.Module
    folder: Path | None
    given: Path

    @cached_property
    def data(self) -> Batches:
        """On the CPU, in whatever precision it was trained. Raises UserError if it is not what the cell saw."""
        data = open_data(self.cell.problem, torch.device("cpu"), self.folder, given=self.given)
        if data.fingerprint != (trained := self.record["provenance"]["data"]):
            raise UserError(f"CELL {self.cell.id}: it was trained on data {trained}, and here are {data.fingerprint}")
        return data

    def example(self, count: int) -> tuple[Tensor, ...]:
        """So many inputs for the network, on the CPU."""
        return self.data.example(count)

    def about(self) -> dict[str, str]:
        """JSON texts: the "record" and, of images, the "pixels", {"mean": [...], "std": [...]} by channel: the network
        takes (pixels / 255 - mean) / std."""
        normalise = self.data.normalise
        about = {"record": self.record}
        if normalise is not None:
            about["pixels"] = {"mean": normalise.mean.tolist(), "std": normalise.std.tolist()}
        return {name: json.dumps(value) for name, value in about.items()}

    def compact(self) -> nn.Module:
        """The network without its removed filters. The record must have "smaller"."""
        problem = self.cell.problem
        return without_zeros(self.network, (problem.channels, problem.image_size, problem.image_size))


def find(store: Store, text: str) -> Record:
    """The record of the cell of this id, or of the only one with this text in its id. Raises UserError."""
    ids = store.ids()
    fitting = [text] if text in ids else sorted(cell_id for cell_id in ids if text in cell_id)
    if len(fitting) == 1:
        record = store.read(fitting[0])
        if record is None:
            raise UserError(f"CELL {cut(text)}: {store.problems[-1]}")
        try:
            str(Cell.from_json(record["cell"]).id)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            path, reason = store.record_path(fitting[0]), " ".join(str(error).split())
            raise UserError(f"{path} was written by another version of this suite ({cut(reason)})") from None
        return record
    if fitting:
        shown = ", ".join(fitting[:SHOWN]) + (", ..." if len(fitting) > SHOWN else "")
        raise UserError(f"CELL {cut(text)}: {len(fitting)} cells have that in their id: {shown}; write more of it")
    raise UserError(
        f"CELL {cut(text)}: none of the {len(ids)} finished cells of {store.path} has that in its id; "
        f"{store.path}/records lists them"
    )


def load(store: Store, record: Record, data: Path | None = None) -> Trained:
    """The network of a record. Where its weights are not kept it is trained again, and a line on stderr says so.

    data: the folder of the images. Raises UserError, and OtherResult if training gives other weights than the record's.
    """
    cell = Cell.from_json(record["cell"])
    network = models.build(cell.problem, cell.seed)
    if not _load_kept(store, record, network):
        network = _again(store, record, cell, data)
    return Trained(cell, record, network.cpu().eval(), data, store.given)


def _load_kept(store: Store, record: Record, network: nn.Module) -> bool:
    """Load the record's weights into the network; False if they are not in the results folder, or not as they were."""
    try:
        if checksum := record.get("weights_sha256"):
            weights, _ = checkpoint.load(store.weights_path(record["id"], checksum), record["id"])
        else:
            weights = load_safetensors(store.kept_path(record).read_bytes())
        network.load_state_dict(weights)
    except (OSError, checkpoint.BadCheckpoint, SafetensorError, RuntimeError):
        return False
    return parameters_hash(network) == record["parameters_sha256"]


def _again(store: Store, record: Record, cell: Cell, data: Path | None) -> nn.Module:
    """Train the cell as its record says that it was trained: on that device, with as many threads."""
    made, seconds = record["provenance"], record["seconds"]
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if made["ranks"] > 1 or not there.get(made["device"], True):
        how = f"by {made['ranks']} ranks together" if made["ranks"] > 1 else f"on {made['device']}, which is not here"
        raise UserError(
            f"CELL {cell.id}: its weights were not kept, and it was trained {how}; a sweep with --keep weights into "
            "another results folder has them"
        )
    expected = seconds["total"] + seconds.get("inherited", 0.0)
    _say(f"{cell.id}: no usable weights are kept; training it again, about {expected:.1f} s")
    started = time.perf_counter()
    worker = Worker(store, RunOptions(made["device"], made["threads"], data=data))
    try:
        run = worker.train_again(cell)
    except ParentMissing as error:
        raise UserError(f"CELL {cell.id}: {error}; the sweep command trains that one again") from None
    _say(f"{cell.id}: trained in {time.perf_counter() - started:.1f} s")
    if parameters_hash(run.network) != record["parameters_sha256"]:
        metric = run.task.metric
        here, before = run.progress.measures[metric.name], record[metric.name]
        raise OtherResult(
            f"{cell.id}: this machine trains other weights, with a test {metric.label} of "
            f"{metric.text(here['final']['test'])} where the record says {metric.text(before['final']['test'])}; "
            "a sweep here into another --results folder gives weights with their record"
        )
    network: nn.Module = run.network
    return network


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
