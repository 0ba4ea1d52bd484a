"""Cluster profiles: what a user may write, and what SLURM is then asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmark.cli import parse_settings
from benchmark.errors import UserError
from benchmark.launch.slurm.profile import (
    AGAIN_AFTER_A_SIGNAL,
    Profile,
    load_profile,
    parse_seconds,
    sbatch_parameters,
    split_settings,
)
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4h", 14400),
        ("90min", 5400),
        ("2d", 172800),
        ("1-12:00:00", 129600),
        ("00:10:30", 630),
        (30, 1800),
        ("45", 2700),
        ("90s", 90),
        ("1.1h", 3960),
        ("1.5s", 2),
        (0.5, 30),
        ("8:00:00", 28800),
        ("120:00:00", 432000),
        ("8:00", 480),
        ("90:30", 5430),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("0-0:0:1", 1),
        ("365d", 31536000),
    ],
)
def test_times_are_written_as_people_and_as_sbatch_write_them(text: object, seconds: int):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["8:00:00", "480", "8h", "0-8", "0-08:00", "0-08:00:00", "480:00", "0o740", "4.8e2"])
def test_eight_hours_are_480_minutes_of_slurm_however_they_are_written(tmp_path: Path, text: str):
    path = tmp_path / "mine.YML"
    path.write_text(f"time: {text}\n")
    for profile in (load_profile(str(path)), load_profile(None, parse_settings([f"time={text}"]))):
        assert sbatch_parameters(profile, "x", 1, None)["time"] == 480


@pytest.mark.parametrize(("text", "minutes"), [("0:00:30", 1), ("10:01", 11), ("90s", 2), ("1.5", 2), ("2", 2)])
def test_parts_of_a_minute_are_rounded_up(text: str, minutes: int):
    assert load_profile(None, parse_settings([f"time={text}", "warning=1s"])).minutes == minutes


@pytest.mark.parametrize(
    "text",
    [
        "0", "-5", "soon", "true", "~", ".inf", ".nan", "1e300", "366d", "99999999999999999999", "1:2:3:4", "1-",
        "-1:00", "1d-12", "[1]", "{a: 1}", "", "1_0", "٣", "UNLIMITED", "2024-05-01",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_is(text: str):
    with pytest.raises(UserError, match=r"--set slurm: time: .* is not a time up to a year: write 30min, 4h, 2d"):
        load_profile(None, parse_settings([f"time={text}"]))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "slurm").glob("*.yaml")))
def test_every_profile_of_the_suite_is_valid(name: str):
    assert load_profile(str(ROOT / "slurm" / name)) == load_profile(Path(name).stem)


def test_a_profile_becomes_sbatch_options(tmp_path: Path):
    submitit = pytest.importorskip("submitit.slurm.slurm")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "partition: long\naccount: chem\nqos: low\nconstraint: a100\nexclude: 'n[1-2]'\ngpus: 2\ncpus: 3\n"
        "memory: 7G\ntime: 90min\nwarning: 3min\nsetup: [module load cuda]\nextra: {mail-user: me}\n"
    )
    text = submitit._make_sbatch_string(
        command="x", folder="f", **sbatch_parameters(load_profile(str(path)), "table1.x", 5, "afterok:12"), map_count=9
    )
    for line in (
        "--partition=long", "--account=chem", "--qos=low", "--constraint=a100", "--exclude='n[1-2]'", "--mem=7G",
        "--gpus-per-node=2", "--cpus-per-task=3", "--time=90", "--signal=USR2@180", "--mail-user=me",
        "--array=0-8%5", "--dependency=afterok:12", "--kill-on-invalid-dep=yes", "--requeue",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert "module load cuda\n" in text
    assert "srun --unbuffered" in text
    assert "--cpus-per-task=3" in text.split("srun")[1]


@pytest.mark.parametrize("extra", ["gpus-per-node: 'a100:1'", "gres: 'gpu:a100:1'", "gpus: 'a100:1'"])
def test_a_kind_of_gpu_is_asked_for_alone(tmp_path: Path, extra: str):
    """Of two options about GPUs the last one would count, or sbatch refuses both."""
    submitit = pytest.importorskip("submitit.slurm.slurm")
    path = tmp_path / "mine.yaml"
    path.write_text(f"extra: {{{extra}, wckey: me}}\n")
    text = submitit._make_sbatch_string("x", "f", **sbatch_parameters(load_profile(str(path)), "table1.x", 5, None))
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH") and "gpu" in line]
    assert lines == [f"#SBATCH --{extra.replace(': ', '=').replace(chr(39), '')}"]
    assert "#SBATCH --wckey=me\n" in text


def test_a_cluster_that_wants_no_wckey_gets_none():
    submitit = pytest.importorskip("submitit.slurm.slurm")
    assert "wckey" not in submitit._make_sbatch_string("x", "f", **sbatch_parameters(Profile(), "table1.x", 5, None))


@pytest.mark.parametrize(
    ("code", "state", "asked"),
    [(0, "RUNNING", 0), (1, "RUNNING", 0), (137, "", 2), (140, "RUNNING", 2), (143, "RUNNING", 2),
     (143, "COMPLETING", 0), (253, "RUNNING", 2)],
)  # fmt: skip
def test_a_job_that_ended_by_a_signal_or_for_memory_is_started_again(tmp_path: Path, code: int, state: str, asked: int):
    """With a controller that is busy at first."""
    for name, does in (
        ("scontrol", f'echo "$@" >> {tmp_path}/asked; [ "$(wc -l < {tmp_path}/asked)" -ge 2 ]'),
        ("squeue", f"[ -e {tmp_path}/woken ] && echo {state} || {{ touch {tmp_path}/woken; exit 1; }}"),
        ("sleep", ":"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    script = "\n".join((f"(exit {code})", *AGAIN_AFTER_A_SIGNAL))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == code
    told = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert told == asked * ["requeue 77"]


def test_the_command_line_changes_single_fields():
    recipe, slurm = split_settings({"epochs": 9, "slurm.time": "2h", "slurm.retries.lost": 7})
    assert recipe == {"epochs": 9}
    profile = load_profile("one-gpu", slurm)
    assert profile.minutes == 120
    assert profile.retries.lost == 7
    assert profile.retries.warned == load_profile("one-gpu").retries.warned
    assert profile.cpus == load_profile("one-gpu").cpus


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin: gpu", ["mine.yaml", "partitoin", "partition"]),
        ("time: soon", ["mine.yaml", "time", "soon", "4h"]),
        ("gpus: -1", ["mine.yaml", "gpus", "-1"]),
        ("memory: lots", ["mine.yaml", "memory", "lots"]),
        ("time: 1min\nwarning: 2min", ["mine.yaml", "warning"]),
        ("extra: {signal: USR1@9}", ["mine.yaml", "extra.signal"]),
        ("extra: {clusters: c2}", ["mine.yaml", "extra.clusters: export SLURM_CLUSTERS=c2 instead"]),
        ("extra: {kill_on_invalid_dep: 'no'}", ["mine.yaml", "kill_on_invalid_dep"]),
        ("extra: {mem: 64G}", ["mine.yaml", "extra.mem: a profile has memory for it"]),
        ("extra: {time: 5}", ["mine.yaml", "extra.time: a profile has time for it"]),
        ("extra: {gpus_per_node: 2}", ["mine.yaml", "a profile has gpus for it"]),
        ("extra: {'--array': 1}", ["mine.yaml", "extra.--array is no option of sbatch: write it without its dashes"]),
        ("extra: {ARRAY: 1}", ["mine.yaml", "extra.ARRAY is no option of sbatch"]),
        ('extra: {mail-user: "a\\nb"}', ["mine.yaml", "extra.mail-user 'a\\nb' has a character that does not print"]),
        ('partition: "a\\nb"', ["mine.yaml", "partition 'a\\nb' has a character that does not print"]),
        ("gpus: 3\ntasks: 2", ["mine.yaml", "tasks 2"]),
        ("retries: {lots: 3}", ["mine.yaml", "retries.lots"]),
        ("- gpu", ["mine.yaml"]),
        ("gpus: yes", ["mine.yaml", "gpus 'yes'", "integer", "accepted: a number from 0 up to 1000000"]),
        ("gpus: true", ["mine.yaml", "gpus True", "integer"]),
        ("gpus: 1:30", ["mine.yaml", "gpus '1:30'", "integer"]),
        ("nodes: 99999999999999999999", ["mine.yaml", "nodes 99999999999999999999", "from 1 up to 1000000"]),
        ("retries: {lost: 1e30}", ["mine.yaml", "retries.lost", "from 0 up to 1000000"]),
        ("time: 60s\nwarning: 120s", ["mine.yaml: warning 120 s must be shorter than time, 60 s"]),
        ("extra: {tim: 60}", ["mine.yaml: extra.tim is sbatch's time, cut short: write options in full"]),
        ("extra: {nice: 1.5}", ["mine.yaml: extra.nice 1.5"]),
        ("gpus:", ["mine.yaml: gpus is empty: a value is expected"]),
        ("retries: 3", ["mine.yaml: retries 3: keys and values are expected"]),
        ("account: 0123", ["mine.yaml", "account 123", "put it in quotes"]),
        ("memory: 16", ["mine.yaml", "memory 16", "put it in quotes"]),
        ("account: x\naccount: y", ["mine.yaml line 2", "'account' is there already"]),
        ("gpus: [", ["mine.yaml", "line 2"]),
    ],
)
def test_a_mistake_in_a_profile_is_named(tmp_path: Path, text: str, words: list[str]):
    path = tmp_path / "mine.yaml"
    path.write_text(text + "\n")
    with pytest.raises(UserError) as refusal:
        load_profile(str(path))
    for word in words:
        assert word in str(refusal.value)


def test_words_of_yaml_1_1_are_words(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("partition: on\naccount: no\nqos: 1:30\nextra: {mail-type: off}\n")
    profile = load_profile(str(path))
    assert (profile.partition, profile.account, profile.qos, profile.extra) == (
        "on",
        "no",
        "1:30",
        {"mail-type": "off"},
    )


def test_an_unknown_profile_or_setting_is_named():
    for name in ("nowhere", "x" * 5000, "a\0b"):
        with pytest.raises(UserError, match=r"(?s)--cluster .*: .*one-gpu"):
            load_profile(name)
    with pytest.raises(UserError, match="--set slurm: tiem: unknown key"):
        load_profile(None, {"tiem": "4h"})
