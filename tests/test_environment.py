"""What a command takes from the environment that it is started in, and what of it is refused in one line."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pwd
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import torch

from analysis import make_figures, make_report, make_tables
from analysis.figures import style
from benchmark import cli, environment, export, publish, status, streams, sweep
from benchmark.environment import cache_folder
from benchmark.errors import UserError
from benchmark.launch import machine, ranks
from benchmark.launch.slurm import jobs as slurm
from benchmark.launch.slurm import task
from benchmark.launch.slurm.profile import Profile
from benchmark.launch.slurm.queue import Unknown, read_queue
from benchmark.launch.slurm.submissions import KEYS, submissions
from benchmark.results.store import Store
from benchmark.worker import device_name
from tests.conftest import ROOT, assert_one_line_refusal

ONE = ("--seeds", "1", "--only", "schedule=FT,sparsity=0.9,budget=5.55%", "--tracking", "off")
NOT_TEXT = os.fsdecode(b"r\xff")


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch):
    """Each test leaves environment, warnings, limits and the folder for temporary files as they were."""
    before, limits = dict(os.environ), resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    monkeypatch.setattr(sys, "warnoptions", list(sys.warnoptions))
    with warnings.catch_warnings():
        yield
    os.environ.clear()
    os.environ.update(before)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def refusal(capsys: pytest.CaptureFixture[str], app, *arguments: str) -> str:
    assert cli.main(app, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# Names that are not text


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        (sweep.app, ["table1", *ONE, "--results", NOT_TEXT]),
        (sweep.app, ["table1", *ONE, "--data", NOT_TEXT]),
        (sweep.app, ["table1", *ONE, "--set", f"epochs={NOT_TEXT}"]),
        (sweep.app, [f"{NOT_TEXT}.yaml"]),
        (sweep.app, ["table1", "--executor", "slurm", "--cluster", f"{NOT_TEXT}.yaml"]),
        (status.app, ["table1", "--results", NOT_TEXT]),
        (publish.app, ["--results", NOT_TEXT]),
        (export.app, ["table1", "--output", NOT_TEXT]),
        (make_tables.app, ["table1", "--output", NOT_TEXT]),
        (make_figures.app, ["--output", NOT_TEXT]),
        (make_report.app, ["--output", f"{NOT_TEXT}.html"]),
    ],
)
def test_what_is_not_text_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch, capsys, app, arguments):
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, app, *arguments)
    assert "r\\udcff" in line
    assert line.endswith("this is not text in utf-8")
    assert list(tmp_path.iterdir()) == []


def test_results_below_a_folder_that_is_not_text_are_refused_unless_by_a_link(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / NOT_TEXT).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / NOT_TEXT)
    monkeypatch.chdir(tmp_path / NOT_TEXT)
    line = refusal(capsys, sweep.app, "table1", *ONE, "--results", "runs")
    assert "--results" in line
    assert "symbolic link" in line
    assert list((tmp_path / NOT_TEXT).iterdir()) == []
    Store.open_for_writing(tmp_path / "link" / "runs")


def test_a_variable_that_torch_refuses_ends_a_command_in_one_line():
    command = [sys.executable, "-m", "benchmark.check", "IMP"]
    variables = {**os.environ, "TORCH_LOGS": "junk"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert_one_line_refusal(done, "torch cannot be loaded", "junk")


@pytest.mark.parametrize("value", ["junk", "expandable_segments=True", "a:", "a:1,b"])
def test_a_setting_of_the_allocator_that_would_abort_torch_is_one_line(monkeypatch, capsys, value: str):
    """Some of them end a process that imports torch by a signal, which nothing in Python could turn into a line."""
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", value)
    assert cli.main(sweep.app, ["table1", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"PYTORCH_CUDA_ALLOC_CONF={value}: write name:value" in line


@pytest.mark.parametrize(
    "value", ["", "expandable_segments:True", "max_split_size_mb:128, backend:native,", "a:[256:1,512:2,>:4],b:0.8"]
)
def test_other_settings_of_the_allocator_are_torch_s(monkeypatch, value: str):
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", value)
    environment.check_allocator()


# matplotlib


def test_figures_are_the_same_whatever_is_set_for_matplotlib(tmp_path: Path):
    """MPLBACKEND as notebooks leave it, and settings in every place where matplotlib looks for them."""
    (tmp_path / "config" / "stylelib").mkdir(parents=True)
    (tmp_path / "config" / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nsavefig.format: nothing\n")
    (tmp_path / "config" / "stylelib" / "own.mplstyle").write_bytes(b"\xff")
    (tmp_path / "matplotlibrc").write_bytes(b"axes.grid: \xff")
    variables = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(tmp_path / "config"),
        "MATPLOTLIBRC": str(tmp_path / "config"),
        "PYTHONPATH": str(ROOT),
    }
    options = ["budget", "--problem", "digits", "--format", "svg", "--results", str(ROOT / "results"), "--output"]
    command = [sys.executable, "-m", "analysis.make_figures", *options, "inherited"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert cli.main(make_figures.app, [*options, str(tmp_path / "plain")]) == 0
    inherited, plain = (tmp_path / name / "budget-digits.svg" for name in ("inherited", "plain"))
    assert inherited.read_bytes() == plain.read_bytes()


def test_settings_of_the_process_do_not_reach_a_figure():
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 40, "font.family": "none such"}):
        with style():
            assert matplotlib.rcParams["text.usetex"] is False
            assert matplotlib.rcParams["lines.linewidth"] == 1.3
            assert matplotlib.rcParams["font.family"] == ["sans-serif"]
        assert matplotlib.rcParams["lines.linewidth"] == 40, "whoever set them has them back"


# Users and folders


def test_a_user_without_a_name_or_a_home_has_both(monkeypatch: pytest.MonkeyPatch):
    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CACHE_HOME", "PRUNING_BENCHMARK_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="set PRUNING_BENCHMARK_CACHE"):
        cache_folder()
    environment.settle()
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert cache_folder() == Path("/.cache/pruning-benchmark")


@pytest.mark.parametrize("home", [None, ""])
def test_libraries_find_the_home_that_the_list_of_users_has(monkeypatch: pytest.MonkeyPatch, home: str | None):
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    environment.settle()
    assert os.environ["HOME"] == pwd.getpwuid(os.getuid()).pw_dir


def test_the_cache_is_where_the_user_has_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("PRUNING_BENCHMARK_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for cache in ("", "relative/cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert cache_folder() == tmp_path / ".cache" / "pruning-benchmark"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_folder() == Path("/var/cache/pruning-benchmark")


@pytest.mark.parametrize("folder", ["missing", "x" * 100])
def test_a_folder_for_temporary_files_that_workers_cannot_use_is_not_used(tmp_path: Path, folder: str):
    (tmp_path / ("x" * 100)).mkdir()
    os.environ["TMPDIR"] = str(tmp_path / folder)
    tempfile.tempdir = None
    environment.settle()
    assert "TMPDIR" not in os.environ
    assert not tempfile.gettempdir().startswith(str(tmp_path))


def test_a_folder_that_was_deleted_under_a_command_is_one_line(monkeypatch, capsys, tmp_path: Path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "No such file" in refusal(capsys, sweep.app, "table1", "--results", "runs")


# Variables


def test_what_would_change_numbers_pin_threads_or_make_errors_of_warnings_is_dropped():
    os.environ |= {name: "1" for name in environment.DROPPED} | {"SQUEUE_STATES": "RUNNING", "OMP_NUM_THREADS": "7"}
    warnings.simplefilter("error")
    sys.warnoptions.append("error")
    environment.settle()
    assert not {*environment.DROPPED, "SQUEUE_STATES"} & os.environ.keys()
    assert {"ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "OMP_PROC_BIND"} <= set(environment.DROPPED)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    warnings.warn("of a library", DeprecationWarning, stacklevel=1)
    assert subprocess._args_from_interpreter_flags().count("-Werror") == 0, "nor of a worker's"


def test_a_record_names_what_leaves_instructions_of_the_processor_unused(monkeypatch):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    whole = device_name(torch.device("cpu"))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert device_name(torch.device("cpu")) == f"{whole} (ATEN_CPU_CAPABILITY=avx2)"


def test_every_command_and_every_job_starts_by_that():
    for start in (lambda: cli.main(export.app, ["--help"]), task.ChunkTask("/no such folder", 0)):
        os.environ["KMP_AFFINITY"] = "compact"
        with contextlib.suppress(UserError):
            start()
        assert "KMP_AFFINITY" not in os.environ


@pytest.mark.parametrize(
    ("visible", "found"), [("junk", ()), ("0,junk,1", ("0",)), ("0, 1", ("0", "1")), ("MIG-3f/1/0", ("MIG-3f/1/0",))]
)
def test_gpus_that_no_gpu_can_be_called_are_none(monkeypatch, visible: str, found: tuple[str, ...]):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == found


@pytest.mark.parametrize(
    ("files", "found"),
    [((), ()), (("nvidia1", "nvidia0", "nvidia10"), ("0", "1", "10")), (("kfd", "dxg"), ())],
)
def test_gpus_are_counted_without_nvidia_smi_too(monkeypatch, files: tuple[str, ...], found: tuple[str, ...]):
    """Else there would be a worker a core, all of them on the first GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "gpu_files", lambda: [Path("/dev") / name for name in files])
    assert machine.gpus() == found
    assert machine.share_out(None).workers == (len(found) or machine.cores())


def test_a_rank_that_nobody_told_where_to_meet_is_one_line(monkeypatch: pytest.MonkeyPatch):
    for name in ("MASTER_ADDR", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="MASTER_ADDR is not"):
        ranks._meet_elsewhere()


def test_a_machine_without_gpus_has_a_worker_a_core_whatever_gpus_are_named(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(machine, "gpu_files", list)
    monkeypatch.setattr(machine, "cores", lambda: 5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert cli.main(sweep.app, ["table1", "--dry-run", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("with 5 workers of 1 thread")


def test_files_that_a_pool_needs_are_asked_for_and_too_few_refused():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    machine.open_files_for(2)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, hard)
    machine.open_files_for(100)
    assert 224 <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= hard
    with pytest.raises(UserError, match="ulimit -n allows"):
        machine.open_files_for(hard)


# SLURM


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a program of a shell script; no others can be found."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def make(name: str, script: str = "") -> None:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    return make


def submit(tmp_path: Path, *options: str) -> int:
    arguments = ["--seeds", "1", "--executor", "slurm", "--results", str(tmp_path / "runs"), *options]
    return cli.main(sweep.app, ["table1", *arguments])


@pytest.mark.parametrize("missing", ["sbatch", "srun", "squeue"])
def test_nothing_is_submitted_where_a_program_of_slurm_is_missing(programs, tmp_path: Path, capsys, missing: str):
    for name in {"sbatch", "srun"} - {missing}:
        programs(name, f"touch {tmp_path}/called")
    store = Store(tmp_path / "runs")
    if missing == "squeue":
        (store.path / "submissions" / "earlier").mkdir(parents=True)
        (store.path / "submissions" / "earlier" / "submission.json").write_text(json.dumps(dict.fromkeys(KEYS, 1)))
    assert submit(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"there is no {missing} here" in line
    assert not (tmp_path / "called").exists()
    assert len(submissions(store)) == (missing == "squeue")


def test_an_sbatch_that_names_no_job_is_one_line_and_squeue_is_asked_later(programs, tmp_path: Path, capsys):
    for name in ("srun", "squeue"):
        programs(name)
    programs("sbatch", "echo please read the new rules")
    assert submit(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "please read the new rules" in line
    (one,) = submissions(Store(tmp_path / "runs"))
    assert (one.closed, one.jobs(0)) == (False, None), "whether there is a job, squeue will tell"


def test_a_scancel_that_cannot_be_run_is_one_line(programs, tmp_path: Path, capsys):
    for name in ("srun", "squeue"):
        programs(name)
    programs("sbatch", "echo Submitted batch job 7")
    assert submit(tmp_path) == 0
    (one,) = submissions(Store(tmp_path / "runs"))
    programs("squeue", f"echo '7|RUNNING|None|{one.job_name(0)}'")
    capsys.readouterr()
    assert submit(tmp_path, "--cancel") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "scancel does not answer (No such file or directory)" in line


def test_answers_of_slurm_that_are_no_text_or_from_several_clusters_are_read(programs, tmp_path: Path):
    programs("squeue", "printf 'CLUSTER: one\\n7|RUNNING|None|\\377\\n'")
    assert list(read_queue([1])) == ["7"]
    (tmp_path / "bin" / "squeue").write_text("neither a script nor a program")
    with pytest.raises(Unknown, match="squeue does not answer"):
        read_queue([1])


@pytest.mark.parametrize(("partition", "left"), [(None, {"SBATCH_PARTITION"}), ("long", set())])
def test_sbatch_is_told_what_the_profile_says_whatever_variables_say(partition: str | None, left: set[str]):
    """Also outside of any job, where users keep SBATCH_* and a login shell may have SLURM_* from elsewhere."""
    own = {"SBATCH_PARTITION": "short", "SBATCH_NO_REQUEUE": "1", "SBATCH_SIGNAL": "TERM@1", "SLURM_NTASKS": "8"}
    os.environ |= {**own, "SLURM_CONF": "/etc/slurm.conf", "SRUN_CPUS_PER_TASK": "1"}
    before = dict(os.environ)
    with slurm.as_the_profile_says(Profile(partition=partition)):
        assert {name for name in os.environ if name.startswith(("SBATCH_", "SLURM_", "SRUN_"))} == {*left, "SLURM_CONF"}
    assert dict(os.environ) == before


def test_no_columns_leave_a_text_its_room(monkeypatch: pytest.MonkeyPatch):
    for columns in ("0", "", "00"):
        monkeypatch.setenv("COLUMNS", columns)
        assert streams.make_console().width > 1


@pytest.mark.parametrize("value", ["", "x", "-1"])
def test_a_date_that_is_no_number_is_dropped(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    environment.settle()
    assert "SOURCE_DATE_EPOCH" not in os.environ


def test_warnings_as_errors_go_and_other_options_of_python_stay(monkeypatch: pytest.MonkeyPatch):
    """In PYTHONDEVMODE, subprocess expects "default" among them."""
    monkeypatch.setattr(sys, "warnoptions", ["default", "error::DeprecationWarning"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        environment.settle()
    assert sys.warnoptions == ["default"]
