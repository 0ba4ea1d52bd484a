"""Weights & Biases: one run per finished cell, made from its record. Imports no torch, and wandb only when needed.

The record is the truth and the W&B run its projection: it is written once, after the cell is done, and nothing reads it
back to decide what to run. A marker file in the results folder says that a cell was published, and how:

    published/<ab>/<cell id>.json    which W&B run, in which project, "online" or "offline", when
    publishing/<ab>/<cell id>.<n>    who publishes it now (results/locks.py)
    wandb/                           W&B's own files, unless WANDB_DIR names another place

`publisher.py` does this beside a running sweep, `publish.py` afterwards. In mode "live", `live.py` also shows
cells while they train, in runs that the finished cell's run replaces.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from benchmark.cells import HASH_LENGTH, plain
from benchmark.errors import UserError
from benchmark.metric import metric_of
from benchmark.results.records import Record
from benchmark.tracking.reader import BadRunFile, read_run

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "off", "live"]
MODES: tuple[Mode, ...] = get_args(Mode)
PROJECT = "pruning-and-retraining"
ENVIRONMENT_MODES: dict[str, Mode] = {"offline": "offline", "dryrun": "offline", "disabled": "off"}
"""Values of WANDB_MODE that `auto` obeys; any other leaves the choice to whether there is a key."""
NOT_UPLOADED = ("Fatal error while uploading", "not be synced")
"""What wandb says, on stderr alone, when the server refused data that `finish` then counts as done."""
WRITTEN_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """Where and how to publish; holds no secrets.

    Args:
        store: the results folder.
        mode: one of MODES.
        project: default WANDB_PROJECT, then PROJECT.
        entity: default WANDB_ENTITY, then the account's own.
        fallback: keep a run offline if the server cannot be reached or, in mode "auto", no key is configured; without
            it the record alone is kept.
        init_timeout: seconds, as in wandb.Settings.
        finish_timeout: seconds, as in wandb.Settings.
        answer_timeout: seconds on top of both until the publishing process counts as hung.
        retry: seconds to stay offline after the server failed.
        interval: seconds between two runs sent to the server at least.
        live_after: seconds until a cell is long enough to be shown while it trains.
        niceness: of the publishing process, since training comes first.
    """

    store: Path
    mode: Mode = "auto"
    project: str | None = None
    entity: str | None = None
    fallback: bool = True
    init_timeout: float = 10.0
    finish_timeout: float = 15.0
    answer_timeout: float = 60.0
    retry: float = 600.0
    interval: float = 0.0
    live_after: float = 20.0
    niceness: int = 10

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "store": str(self.store.absolute())})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        values = json.loads(text)
        return cls(**{**values, "store": Path(values["store"])})

    @property
    def project_name(self) -> str:
        return self.project or os.environ.get("WANDB_PROJECT") or PROJECT

    @property
    def folder(self) -> Path:
        """Where wandb makes its folder "wandb"."""
        return Path(os.environ.get("WANDB_DIR") or self.store)


@dataclass(frozen=True)
class Published:
    """One W&B run.

    Args:
        run_id: that W&B knows it by.
        mode: "online" or "offline".
        entity: user or team.
        project: of the entity.
        group: SWEEP/PROBLEM.
        url: "" if it is offline.
        folder: the run's own, below Settings.folder.
    """

    run_id: str
    mode: str
    entity: str
    project: str
    group: str
    url: str
    folder: str


@dataclass(frozen=True)
class Job:
    """What the publishing process is asked to do.

    Args:
        cell_id: whose run to make.
        group: SWEEP/PROBLEM; "" for that of an earlier run.
        mode: "online" or "offline".
        again: although a marker is there.
        cell: as `Cell.to_json` gives it, of a cell that is not finished and should be shown as far as it is.
    """

    cell_id: str
    group: str
    mode: str
    again: bool = False
    cell: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """outcome: "ready", "published", "already published", "shown", "busy", "no record" or "failed" (reason: why)."""

    outcome: str
    mode: str = ""
    reason: str = ""
    url: str = ""


def check_mode(mode: str, option: str = "--tracking") -> Mode:
    """Raises UserError."""
    for known in MODES:
        if mode == known:
            return known
    raise UserError(f"{option} {mode}: one of {', '.join(MODES)}")


def check_project(name: str) -> str:
    """Raises UserError."""
    if not 0 < len(name) <= 128 or set(name) & set("/\\#?%:"):
        raise UserError(f"--project {name}: a name of up to 128 characters without any of / \\ # ? % :")
    return name


def asked_mode(mode: Mode) -> Mode:
    """`mode`, or what WANDB_MODE says where it is "auto"."""
    return ENVIRONMENT_MODES.get(os.environ.get("WANDB_MODE", ""), "auto") if mode == "auto" else mode


def resolve_mode(mode: Mode) -> tuple[Mode, str]:
    """("online" | "offline" | "off", why it is not online). Asks no network and nobody."""
    asked = asked_mode(mode)
    if asked in ("offline", "off"):
        return asked, ""
    problem = key_problem()
    return ("offline", problem) if problem else ("online", "")


def key_problem() -> str:
    """Why wandb cannot log in; "" if there is a key (or identity token) for its server, which is not asked.

    Not through `wandb.login`: that asks the server who the key belongs to, and rewrites the user's settings file.
    """
    import wandb
    from wandb.sdk.lib import wbauth

    with contextlib.redirect_stderr(io.StringIO()):
        try:
            host = wandb.setup().settings.base_url
            key = wbauth.authenticate_session(host=host, source="publish", prompt=False, update_session=False)
            return "" if key else "no W&B key is configured"
        except Exception as error:
            return reason_of(error)


def reason_of(error: BaseException) -> str:
    """One line about an exception, without the key."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    key = os.environ.get("WANDB_API_KEY")
    return (text.replace(key, "***") if key else text)[:240]


# A record as W&B shows it


def run_id(record: Record) -> str:
    """The hash at the end of the cell id: W&B's ids are short and allow fewer characters than names."""
    return str(record["id"])[-HASH_LENGTH:]


def job_type(record: Record) -> str:
    """dense, retraining (a schedule over a budget) or method (one that prunes while it trains)."""
    cell = record["cell"]
    if cell["method"] == "dense":
        return "dense"
    return "method" if cell["budget"] is None else "retraining"


def tags(record: Record) -> list[str]:
    cell = record["cell"]
    sparsity = None if cell["sparsity"] is None else f"s{plain(cell['sparsity'])}"
    return [tag[:64] for tag in (cell["method"], cell["schedule"], sparsity) if tag]


def config_of(record: Record) -> dict[str, Any]:
    """The resolved cell, its axes on top, and provenance."""
    cell = dict(record["cell"])
    problem = dict(cell.pop("problem"))
    if not cell["hyperparameters"]:
        del cell["hyperparameters"]  # the server would drop an empty one
    return {
        "cell": record["id"],
        "schema": record["schema"],
        "problem": problem.pop("name"),
        **cell,
        "recipe": problem,
        "parent": record["parent"],
        "provenance": record["provenance"],
        **({"metric": record["metric"]} if "metric" in record else {}),
    }


def history_of(record: Record) -> list[dict[str, Any]]:
    """One row per epoch; a value that was not finite is left out."""
    history = record["history"]
    rows = zip(*history.values(), strict=True)
    return [{key: value for key, value in zip(history, row, strict=True) if value is not None} for row in rows]


def summary_of(record: Record) -> dict[str, Any]:
    """Final numbers as flat keys, such as accuracy/final/test and sparsity/prunable; d, d1 and d2 of the last cycle.

    The metric is called as in the record. per_cycle and per_layer hold what belongs to each cycle and layer, as lists
    so that neither fills the run's table.
    """
    metric, last = metric_of(record).name, record["cycles"][-1] if record["cycles"] else {}
    numbers = {
        "status": record["status"],
        "remarks": "; ".join(record["remarks"]) or None,
        metric: record[metric],
        "loss": record["loss"],
        "sparsity": {key: value for key, value in record["sparsity"].items() if key != "layers"},
        "macs": record["macs"],
        "smaller": {key: value for key, value in record.get("smaller", {}).items() if key != "layers"},
        "images_per_second": record["images_per_second"],
        "learning_rate/peak": record["learning_rate"]["peak"],
        "learning_rate/sha256": record["learning_rate"]["sha256"],
        "iterations": record["iterations"],
        "seconds": record["seconds"],
        "cycles": len(record["cycles"]),
        **{key: last.get(key) for key in ("d", "d1", "d2")},
        "per_cycle": record["cycles"] or None,
        "per_layer": [{"layer": name, **layer} for name, layer in record["sparsity"].get("layers", {}).items()] or None,
    }
    return dict(_flat(numbers, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}/")
        elif value is not None:
            pairs.append((prefix + key, value))
    return pairs


# Publishing


def publish_record(record: Record, group: str, settings: Settings, mode: str) -> Published:
    """Make the W&B run of `record`, mode "online" or "offline", and return once it is wholly written or sent.

    Can take init_timeout + finish_timeout, and after an exception wandb's service may be stuck: call it where both do
    no harm, and use a new process afterwards. Raises what wandb raises, or OSError if the data did not arrive.
    """
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        run = begin_run(record, group, settings, mode)
        folder = Path(run.dir).parent
        if (settings.folder / "wandb").resolve() not in folder.resolve().parents:  # a temporary folder instead
            raise OSError(f"{settings.folder / 'wandb'} cannot be written")
        for row in history_of(record):
            run.log(row)
        run.summary.update(summary_of(record))
        where = os.path.relpath(folder, settings.folder)
        published = Published(run.id, mode, run.entity or "", run.project or "", group, run.url or "", where)
        run.finish(exit_code=0)
    refused = [line for line in stderr.getvalue().splitlines() if any(text in line for text in NOT_UPLOADED)]
    if mode == "online" and refused:
        raise OSError(refused[0].removeprefix("wandb: WARNING "))
    if mode == "offline":
        _wait_until_written(folder / f"run-{run.id}.wandb")
    return published


def begin_run(record: Record, group: str, settings: Settings, mode: str) -> wandb.Run:
    """A W&B run with the id, name and config of `record` and nothing logged. An earlier run of that id is replaced."""
    import wandb

    run = wandb.init(
        mode="online" if mode == "online" else "offline",
        project=settings.project_name,
        entity=settings.entity,
        dir=settings.folder,
        id=run_id(record),
        name=record["id"],
        group=group,
        job_type=job_type(record),
        tags=tags(record),
        config=config_of(record),
        reinit="create_new",
        settings=wandb.Settings(**_run_settings(settings, set(wandb.Settings.model_fields))),
    )
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    return run


def _wait_until_written(path: Path) -> None:
    """wandb closes the file a moment after `finish` has returned, and says nothing if it cannot, for want of space."""
    deadline = time.monotonic() + WRITTEN_SECONDS
    while True:
        try:
            if read_run(path).complete:
                return
            problem = "it has no end"
        except (BadRunFile, OSError) as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise OSError(f"{path} was not written: {problem}")
        time.sleep(0.001)


def _run_settings(settings: Settings, known: set[str]) -> dict[str, Any]:
    """No output, and nothing collected but what we log: 10 ms a run in place of 50. Older versions know fewer."""
    values = {
        "init_timeout": settings.init_timeout,
        "finish_timeout": settings.finish_timeout,
        "finish_timeout_raises": True,
        "console": "off",
        "silent": True,
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "save_code": False,
        "label_disable": True,
        "sagemaker_disable": True,
        "symlink": False,
        "use_dot_wandb": False,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_disable_stats": True,
        "x_disable_viewer": True,
        "x_save_requirements": False,
    }
    return {key: value for key, value in values.items() if key in known}
