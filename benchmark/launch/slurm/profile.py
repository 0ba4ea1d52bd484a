"""Cluster profiles: what a SLURM job of a sweep asks for, from slurm/*.yaml and `--set slurm.KEY=VALUE`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from benchmark.cells import cut, shown
from benchmark.errors import UserError
from benchmark.yaml_files import is_file, names_file, read_yaml, shipped, validated

PROFILES = shipped("slurm")
MOST_SECONDS = 365 * 86400
MOST = 1_000_000
"""Of anything that is counted."""
DIGITS = "[0-9]{1,9}"
UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
RESERVED = {
    "array", "chdir", "clusters", "dependency", "error", "job-name", "kill-on-invalid-dep", "open-mode", "output",
    "parsable", "requeue", "signal", "test-only", "wait", "wrap",
}  # fmt: skip
"""sbatch options that decide whether a sweep survives; a profile's `extra` may not touch them."""
OWN = {
    **{name: name for name in ("partition", "account", "qos", "constraint", "exclude", "nodes", "time")},
    **{"mem": "memory", "cpus-per-task": "cpus", "gpus-per-node": "gpus", "ntasks-per-node": "tasks"},
}
"""sbatch options that a profile has keys for."""
ALSO_WHOLE = ("gpus", "ntasks")
"""Options of sbatch that others of it begin with."""
OPTION = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
"""A long option of sbatch, without its dashes."""


def parse_seconds(value: Any) -> int:
    """Seconds of "4h", "90min", "2d", or of a time as sbatch takes it: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or
    D-HH:MM:SS. Parts of a second count as one. Raises ValueError that says what is accepted."""
    text = "" if isinstance(value, bool) else str(value).strip()
    seconds = 0.0
    if match := re.fullmatch(rf"({DIGITS}(?:\.{DIGITS})?)\s*(s|sec|min|m|h|d)?", text):
        seconds = float(match[1]) * UNITS[match[2] or "min"]
    elif match := re.fullmatch(rf"(?:({DIGITS}):)?({DIGITS}):({DIGITS})", text):
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = (hours * 60 + minutes) * 60 + rest
    elif match := re.fullmatch(rf"({DIGITS})-({DIGITS})(?::({DIGITS})(?::({DIGITS}))?)?", text):
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"{shown(value)} is not a time up to a year: write 30min, 4h, 2d, 08:00:00 or 1-12:00:00")
    return math.ceil(round(seconds, 6))


Seconds = Annotated[int, BeforeValidator(parse_seconds)]
Count = Annotated[int, Field(ge=1, le=MOST)]
FromNone = Annotated[int, Field(ge=0, le=MOST)]


class Retries(BaseModel):
    """How often a task starts again by itself, by what ended it. Beyond that its cells count as failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warned: FromNone = Field(default=100, description="time limit, preemption: SLURM warned, a checkpoint was saved")
    terminated: FromNone = Field(default=100, description="scontrol requeue, preemption without warning")
    lost: FromNone = Field(default=3, description="ended without a word: kill -9, memory, a node that went away")
    idle: Count = Field(default=3, description="attempts in a row that finished no iteration, whatever ended them")


class Profile(BaseModel):
    """What each job asks for. Empty fields are left to the cluster's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = Field(default=None, description="features that a node must have, such as a100")
    exclude: str | None = Field(default=None, description="nodes to keep away from")
    nodes: Count = 1
    tasks: Count = Field(default=1, description="processes a node that train one cell together (DDP)")
    gpus: FromNone = Field(default=1, description="GPUs a node")
    cpus: Count = Field(default=4, description="processors of each process")
    memory: str | None = Field(default="16G", pattern=r"^[0-9]{1,12}[KMGT]?$", description="of a node, such as 16G")
    time: Seconds = Field(default=4 * 3600, description="limit of one job; longer cells go on in the next")
    array_parallelism: Count = Field(default=100, description="jobs of one sweep at the same time")
    workers: Count = Field(default=1, description="cells that one job trains side by side")
    chunk: Seconds = Field(default=1800, description="length of a job that short cells are packed into")
    max_jobs: Count = Field(default=400, description="jobs of one submission at most; chunks grow to fit")
    setup: tuple[str, ...] = Field(default=(), description="shell commands before the job, such as module load cuda")
    extra: dict[str, str | int | bool] = Field(default_factory=dict, description="other sbatch options: mail-user: me")
    logs: Path | None = Field(default=None, description="folder of the jobs' logs; default beside the records")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto is cuda where gpus > 0, else cpu")
    warning: Seconds = Field(default=120, description="ask to be told so long before the time limit")
    checkpoint: Seconds = Field(default=300, description="between checkpoints, for what gives no warning")
    validate_every: Count = Field(default=1, description="epochs from one validation to the next")
    keep: Literal["nothing", "weights"] = Field(default="nothing", description="of a finished cell beside its record")
    hang: Seconds = Field(default=1800, description="a cell without a finished iteration for so long fails")
    code_changed: Literal["refuse", "warn"] = "refuse"
    retries: Retries = Retries()

    @model_validator(mode="after")
    def _fits(self) -> Profile:
        if self.warning >= self.time:
            raise ValueError(f"warning {self.warning} s must be shorter than time, {self.time} s")
        for key, value in self.extra.items():
            option = key.replace("_", "-")
            if option == "clusters":
                raise ValueError(
                    f"extra.{key}: export SLURM_CLUSTERS={value} instead, which squeue and scancel obey, too"
                )
            if option in RESERVED:
                raise ValueError(f"extra.{key} is set by the suite and cannot be changed")
            if option in OWN and not (option == "gpus-per-node" and ":" in str(value)):  # gpus is a count, and no type
                raise ValueError(f"extra.{key}: a profile has {OWN[option]} for it")
            if not OPTION.fullmatch(key):
                raise ValueError(f"extra.{cut(key)} is no option of sbatch: write it without its dashes, as mail-user")
            longer = [name for name in sorted({*RESERVED, *OWN}) if name.startswith(option)]
            if longer and option not in (*OWN, *ALSO_WHOLE):
                raise ValueError(f"extra.{key} is sbatch's {longer[0]}, cut short: write options in full")
            if not str(value).isprintable():
                raise ValueError(f"extra.{key} {shown(value)} has a character that does not print")
        for name in ("partition", "account", "qos", "constraint", "exclude"):
            if not str(getattr(self, name)).isprintable():
                raise ValueError(f"{name} {shown(getattr(self, name))} has a character that does not print")
        if self.ranks > 1 and self.workers > 1:
            raise ValueError(f"workers {self.workers} must be 1 where {self.ranks} processes train one cell together")
        if self.tasks > 1 and self.gpus % self.tasks:
            raise ValueError(f"gpus {self.gpus} does not divide into tasks {self.tasks}")
        return self

    @property
    def ranks(self) -> int:
        """Processes that train one cell together."""
        return self.nodes * self.tasks

    @property
    def minutes(self) -> int:
        """The time limit as SLURM counts it."""
        return -(-self.time // 60)

    @property
    def device_name(self) -> str:
        if self.device != "auto":
            return self.device
        return "cuda" if self.gpus else "cpu"

    @property
    def chunk_seconds(self) -> float:
        """Work of a chunk: what was asked for, or what fits into the time limit if that is less."""
        return min(self.chunk, max(self.time - self.warning, self.time / 2))

    def gpu_hours(self, job_seconds: float) -> float:
        return self.gpus * self.nodes * job_seconds / 3600


def load_profile(name: str | None, settings: Mapping[str, Any] | None = None) -> Profile:
    """slurm/NAME.yaml, or the file of that path, with settings over it; the defaults without a name.

    settings: keys without "slurm.", "retries.lost" for one of the retries. Raises UserError.
    """
    path = None if name is None else _find(name)
    values = {} if path is None else read_yaml(path) or {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, found {type(values).__name__}")
    base = validated(Profile, values, path)
    if not settings:
        return base
    changed = dict(values)
    for key, value in settings.items():
        first, _, second = key.partition(".")
        nested = changed.get(first)
        changed[first] = {**(nested if isinstance(nested, dict) else {}), second: value} if second else value
    return validated(Profile, changed, None, "--set slurm")


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(those of the recipe, those that start with "slurm." without it)."""
    slurm = {key.removeprefix("slurm."): value for key, value in settings.items() if key.startswith("slurm.")}
    return {key: value for key, value in settings.items() if not key.startswith("slurm.")}, slurm


JOB_START = "PRUNING_JOB_START"
"""When a job's script began, in seconds since 1970: older versions of SLURM do not tell a job."""
AGAIN_AFTER_A_SIGNAL = (
    "code=$?",
    "# Ended by a signal, and not by SLURM (an operator, the loss of a rank, a warning while Python starts), or by too",
    "# little memory (253): start again; the job counts how often. A job that SLURM ends is not RUNNING any more;",
    "# after a scancel that had to kill, this script is gone before the pause ends. A busy controller is asked again.",
    'case "$code" in 137|140|143|253)',
    '  job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"',
    '  for pause in 5 20 40; do sleep "$pause"',
    '    if [ "$code" -ne 137 ]; then',
    '      state=$(squeue --noheader --jobs "$job" --format %T) || continue',
    '      [ "$state" = RUNNING ] || break',
    "    fi",
    '    scontrol requeue "$job" && break',
    "  done",
    "esac",
    'exit "$code"',
)


def sbatch_parameters(profile: Profile, job_name: str, parallelism: int, dependency: str | None) -> dict[str, Any]:
    """The parameters of submitit.SlurmExecutor for one array of jobs."""
    extra: dict[str, Any] = {"propagate": "NONE"}  # the limits of the login node are not those of a job
    extra |= {key.replace("-", "_"): value for key, value in profile.extra.items()} | {"requeue": True}
    typed = "gpus" in extra or "gpu" in str(extra.get("gres", ""))
    if profile.memory:
        extra["mem"] = profile.memory
    if dependency:
        extra["kill-on-invalid-dep"] = "yes"  # or a job whose dense run failed stays pending for ever
    parameters = {
        "job_name": job_name,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "time": profile.minutes,  # an integer: a string raises inside submitit's signal handler
        "nodes": profile.nodes,
        "ntasks_per_node": profile.tasks,
        "cpus_per_task": profile.cpus,
        "gpus_per_node": None if typed else profile.gpus or None,
        "signal_delay_s": profile.warning,
        "array_parallelism": parallelism,
        "setup": [f"export {JOB_START}=$(date +%s.%N)", *profile.setup],
        "teardown": list(AGAIN_AFTER_A_SIGNAL),
        "dependency": dependency,
        "additional_parameters": extra,
        # since SLURM 22.05 a step no longer takes over the job's count of processors; a rank that dies ends the others
        "srun_args": [f"--cpus-per-task={profile.cpus}", *(["--kill-on-bad-exit=1"] if profile.ranks > 1 else [])],
    }
    given = {key: value for key, value in parameters.items() if value is not None}
    return {**given, "wckey": extra.get("wckey")}  # of its own submitit names one, which a cluster may refuse


def _find(name: str) -> Path:
    for path in (Path(name), PROFILES / f"{name}.yaml"):
        if names_file(str(path)) and is_file(path):
            return path
    known = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml"))) or "none"
    raise UserError(
        f"--cluster {cut(name)}: there is no such file, nor a profile of that name in slurm/ (there: {known})"
    )
