"""The command that people use, as they use it: real training of small digits sweeps in real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.results.records import result
from benchmark.results.store import Store
from benchmark.sweep import app
from benchmark.tracking.markers import unpublished
from tests.commands import ROOT, as_command
from tests.conftest import PATIENCE, assert_one_line_refusal, wait_for

SMALL = ("--set", "epochs=5", "--set", "milestones=[2,3,4]", "--set", "warmup_epochs=1", "--tracking", "off")
EAGER = ("--checkpoint-seconds", "0")
CELLS = [f"sparsity=0.9,budget=11.11%,schedule={schedule}" for schedule in ("FT", "LLR", "ALLR")]
FEW = (*(part for cells in CELLS for part in ("--only", cells)), "--seeds", "2")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Store:
    """The records of a small sweep that nothing disturbed, by one worker."""
    folder = tmp_path_factory.mktemp("untouched")
    sweep(folder, "--workers", "1", check=True)
    return Store(folder)


def sweep(folder: Path, *arguments: str, check: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    finished = as_command("benchmark.sweep", "table1", *SMALL, *FEW, "--results", str(folder), *arguments, **variables)
    assert finished.returncode == 0 or not check, finished.stdout + finished.stderr
    return finished


def started(folder: Path, *arguments: str, **options: bool) -> subprocess.Popen[str]:
    """The same command, left running; what it prints is one text."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark.sweep", "table1", *SMALL, *FEW, "--results", str(folder), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def results(store: Store) -> dict[str, dict]:
    found = {record["id"]: result(record) for record in store.records()}
    assert store.problems == []
    return found


def test_a_sweep_trains_every_cell_and_prints_its_table(untouched: Store):
    records = list(untouched.records())
    assert len(records) == 3 * 2 + 2
    for record in records:
        assert 0 < record["accuracy"]["final"]["test"] <= 1
        assert record["status"] == "ok"
        if record["cell"]["method"] != "dense":
            assert set(record["accuracy"]) == {"dense", "pruned", "final"}
            assert record["sparsity"]["prunable"] == pytest.approx(0.9, abs=1e-4)
            assert record["macs"]["speedup"] > 1
            assert len(record["history"]["epoch"]) == 1


def test_the_same_command_again_trains_nothing_and_prints_the_same_table(untouched: Store):
    before = {path: path.stat().st_mtime_ns for path in untouched.path.glob("records/*/*")}
    again = sweep(untouched.path)
    assert again.returncode == 0
    assert "6 done, 0 to train" in again.stdout
    assert "sparsity 90 %" in again.stdout
    assert "sparsity 80 %" not in again.stdout, "a column of cells that --only left out"
    assert before == {path: path.stat().st_mtime_ns for path in untouched.path.glob("records/*/*")}


def test_what_an_earlier_run_left_unpublished_the_next_one_publishes(untouched: Store, tmp_path: Path):
    for kind in ("records", "weights"):
        shutil.copytree(untouched.path / kind, tmp_path / kind)
    sweep(tmp_path, check=True)
    assert unpublished(Store(tmp_path), "offline") == sorted(untouched.ids())
    assert "8 runs kept offline" in sweep(tmp_path, "--tracking", "offline", check=True).stdout
    assert unpublished(Store(tmp_path), "offline") == []


def test_worker_count_order_and_kept_weights_change_no_bit(untouched: Store, tmp_path: Path):
    sweep(tmp_path, "--workers", "3", "--order", "schedule", "--keep", "weights", check=True)
    store = Store(tmp_path)
    assert results(store) == results(untouched)
    assert all(store.kept_path(record).is_file() for record in store.records() if record["cell"]["method"] != "dense")
    assert not list(untouched.path.glob("weights/*/*.safetensors"))


def test_ctrl_c_stops_cleanly_says_how_to_go_on_and_loses_nothing(untouched: Store, tmp_path: Path):
    process = started(tmp_path, "--workers", "1", "--tracking", "offline", start_new_session=True)
    # of a cell: then the sweep has heard of its dense run's end, and passed that on to be published
    trained = lambda: any("-dense-" not in name for name in Store(tmp_path).ids())  # noqa: E731
    wait_for(lambda: trained() or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert "the same command" in output
    assert "python -m benchmark.publish" in output, "nothing says that W&B runs are left to publish"
    assert "Traceback" not in output
    assert 0 < len(Store(tmp_path).ids()) < 8
    assert not list(tmp_path.glob("claims/*/*"))
    sweep(tmp_path, check=True)
    assert results(Store(tmp_path)) == results(untouched)


def test_fewer_validations_change_no_weight_and_no_result(untouched: Store, tmp_path: Path):
    done = sweep(tmp_path, "--validate-every", "2", check=True)
    assert "LLR" in done.stdout
    here, there = results(Store(tmp_path)), results(untouched)
    assert here.keys() == there.keys()
    for name, record in here.items():
        expected = there[name]
        rows = record.pop("history"), expected.pop("history")
        assert record == expected
        validated = [value is not None for value in rows[0]["validation_accuracy"]]
        last = len(validated) - 1
        assert validated == [rows[0]["epoch"][k] in (2, 4) or k == last for k in range(len(validated))]
        for kind, values in rows[0].items():
            shown = validated if kind.startswith("validation") else [True] * len(values)
            assert values == [value if there else None for value, there in zip(rows[1][kind], shown, strict=True)]


def test_a_killed_worker_loses_nothing(untouched: Store, tmp_path: Path):
    killed = ThreadPoolExecutor(1).submit(kill_a_worker, tmp_path)
    finished = sweep(tmp_path, *EAGER)
    assert killed.result()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "SIGKILL" in finished.stdout
    assert results(Store(tmp_path)) == results(untouched)


def kill_a_worker(folder: Path) -> int:
    """As soon as there is one that trains; its process id."""
    claim, *_ = wait_for(lambda: list(folder.glob("claims/*/*")))
    os.kill(pid := json.loads(claim.read_text())["pid"], signal.SIGKILL)
    return pid


def test_two_sweeps_at_once_share_the_work(untouched: Store, tmp_path: Path):
    command = [sys.executable, "-m", "benchmark.sweep", "table1", *SMALL, *FEW, "--results", str(tmp_path)]
    both = [subprocess.Popen([*command, "--workers", "1"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert results(Store(tmp_path)) == results(untouched)
    trained = [int(re.search(r"(\d+) cells trained", output)[1]) for output in outputs]
    assert sum(trained) == 8, "a cell was trained twice"
    assert not (tmp_path / "set-aside").exists()


SCHEDULE = '''
from pathlib import Path

import numpy as np

def constant(retraining):
    """A schedule of somebody's own, from outside the package."""
    if Path(__file__).with_name("fail").exists():
        raise RuntimeError("<b>not today</b>")
    return np.full(retraining.iterations, retraining.eta_max / 2)
'''


@pytest.fixture
def own_sweep(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a table1 with one more schedule, which stands outside the package."""
    (tmp_path / "mine.py").write_text(SCHEDULE)
    text = (ROOT / "sweeps/table1.yaml").read_text().replace("ALLR]", 'ALLR, "mine:constant"]')
    (tmp_path / "own.yaml").write_text(text)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        where = ("--seeds", "1", "--results", str(tmp_path / "results"))
        sys.modules.pop("mine", None)  # of another test
        return as_command(
            "benchmark.sweep", str(tmp_path / "own.yaml"), *SMALL, *arguments, *where, PYTHONPATH=str(tmp_path)
        )

    return run


def test_a_schedule_from_outside_is_a_function_and_a_line(own_sweep, tmp_path: Path):
    finished = own_sweep("--only", "schedule=mine:constant,sparsity=0.9")
    assert finished.returncode == 0, finished.stderr
    records = [r for r in Store(tmp_path / "results").records() if r["cell"]["schedule"] == "mine:constant"]
    assert len(records) == 3
    assert {tuple(set(record["learning_rate"]["sampled"]["value"])) for record in records} == {(0.05,)}


def test_a_failed_cell_is_reported_kept_and_tried_again(own_sweep, tmp_path: Path):
    only = ("--only", "sparsity=0.9,budget=2.22%")
    (tmp_path / "fail").touch()
    finished = own_sweep(*only)
    assert finished.returncode == 1
    assert "FAILED" in finished.stdout
    assert "not today" in finished.stdout
    store = Store(tmp_path / "results")
    assert len(store.ids()) == 7, "the neighbours of a failed cell must go on"
    (failure,) = store.failures()
    assert failure["cause"] == "exception"
    assert "RuntimeError" in failure["traceback"]
    (tmp_path / "fail").unlink()
    finished = own_sweep(*only)
    assert finished.returncode == 0, finished.stdout
    assert store.failures() == []
    assert len(store.ids()) == 8


def test_a_sweep_of_which_every_cell_fails_says_so_and_nothing_else(tmp_path: Path):
    finished = sweep(tmp_path, "--set", "learning_rate=1e9", "--seeds", "1")
    assert finished.returncode == 1
    assert "the dense run collapsed" in finished.stdout
    assert finished.stderr == ""


def test_nor_is_there_a_table_of_dense_runs_alone(own_sweep, tmp_path: Path):
    (tmp_path / "fail").touch()
    finished = own_sweep("--only", "schedule=mine:constant,sparsity=0.9,budget=2.22%")
    assert finished.returncode == 1
    assert "not today" in finished.stdout
    assert finished.stderr == ""
    assert len(Store(tmp_path / "results").ids()) == 1


def test_dry_run_says_what_would_run_and_writes_nothing(command, tmp_path: Path):
    finished = command("benchmark.sweep", "table1", "--dry-run", "--cells", "--results", str(tmp_path / "none"))
    assert finished.returncode == 0
    assert "162 cells, 0 done, 162 to train, after 3 dense runs; 1188 epochs" in finished.stdout
    assert len(re.findall(r"^ +[\d.]+ epochs +digits-", finished.stdout, re.M)) == 165
    assert "time: about" in finished.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["table1", "--dry-run"]])
def test_help_and_planning_do_not_import_torch(arguments: list[str], tmp_path: Path):
    program = "import sys; from benchmark import sweep, cli; cli.main(sweep.app); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table9"], ["table9", "table1"]),
        (["table1", "--problem", "mnist"], ["mnist", "digits"]),
        (["table1", "--only", "schedule=XYZ"], ["XYZ", "ALLR"]),
        (["table1", "--only", "sparsity=1.5"], ["1.5", "0.9"]),
        (["table1", "--only", "budget=5 parsecs"], ["5 parsecs", "2.22%"]),
        (["table1", "--seeds", "-3"], ["-3"]),
        (["table1", "--workers", "0"], ["--workers"]),
        (["table1", "--workers", "many"], ["--workers"]),
        (["table1", "--validate-every", "0"], ["--validate-every"]),
        (["table1", "--set", "epochs"], ["KEY=VALUE"]),
        (["table1", "--set", "epochs=0"], ["epochs", "greater than 0"]),
        (["table1", "--set", "colour=red"], ["colour", "batch_size"]),
        (["table1", "--tracking", "maybe"], ["--tracking", "offline"]),
        (["table1", "--device", "abacus"], ["--device", "cpu"]),
        (["table1", "--colour"], ["--colour"]),
        (["table1", "--device", "mps"], ["--device mps", "cpu"]),
        ([], ["name"]),
    ],
)
def test_a_mistake_costs_one_line_and_nothing_else(command, tmp_path: Path, arguments: list[str], words: list[str]):
    finished = command("benchmark.sweep", *arguments, "--results", str(tmp_path / "results"))
    assert_one_line_refusal(finished, *words)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model=resnet9"], ["model 'resnet9' is unknown", "resnet8, resnet20"]),
        (["dataset=mnist"], ["dataset 'mnist' is unknown", "digits"]),
        (["classes=5"], ["classes 5", "10"]),
        (["channels=3"], ["channels 3", "digits", "1"]),
        (["image_size=16"], ["image_size 16", "digits", "8"]),
        (["crop_padding=9"], ["crop_padding 9", "image_size 8"]),
        (["model=vgg16"], ["vgg16", "image_size", "32"]),
        (["model=resnet50", "dataset=noise"], ["resnet50", "3 channels"]),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_recipe_that_cannot_be_trained_is_refused_before_anything_is(
    tmp_path: Path, capsys, settings: list[str], words: list[str], more: list[str]
):
    given = [part for setting in settings for part in ("--set", setting)]
    assert cli.main(app, ["table1", *given, *more, "--results", str(tmp_path / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training_share=0.0001", ["training_share 0.0001", "no iteration", "0 images"]),
        ("validation_fraction=0.0001", ["validation_fraction 0.0001", "no image"]),
    ],
)
def test_shares_that_leave_no_image_are_refused_before_a_worker_starts(
    tmp_path: Path, capsys, setting: str, words: list[str]
):
    assert cli.main(app, ["table1", "--set", setting, "--results", str(tmp_path), "--tracking", "off"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line
    assert not [path for path in tmp_path.rglob("*") if path.parent.name in ("logs", "failures", "records")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells"], ["--cells needs --dry-run"]),
        (["--dry-run", "--repair"], ["--repair", "--dry-run"]),
        (["--dry-run", "--cancel", "--executor", "slurm"], ["--cancel", "--dry-run"]),
        (["--results", ""], ["the argument after --results is empty"]),
        (["--data", "/nowhere"], ["--data /nowhere: dataset digits reads no folder"]),
        (["--data="], ["--data= has no value"]),
        (["--set", "resized_crop=true"], ["resized_crop means nothing for dataset digits"]),
        (["--set", "weights=abc"], ["weights abc are not in", "--weights FILE"]),
        (["--problem", ""], ["the argument after --problem is empty"]),
        (["--hang-seconds", "0"], ["--hang-seconds 0", "above 0"]),
        (["--hang-seconds", "-1"], ["--hang-seconds -1", "above 0"]),
        (["--hang-seconds", "nan"], ["--hang-seconds nan", "above 0"]),
        (["--checkpoint-seconds", "-5"], ["--checkpoint-seconds -5", "from 0 up"]),
        (["--checkpoint-seconds", "nan"], ["--checkpoint-seconds nan", "from 0 up"]),
        (["--workers", "99999999"], ["--workers 99999999", "4096"]),
        (["--keep", "everything"], ["--keep everything", "nothing, weights"]),
        (["--validate-every", "3", "--executor", "slurm"], ["--validate-every 3", "slurm.validate_every=3"]),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, capsys, arguments: list[str], words: list[str]):
    assert cli.main(app, ["table1", "--results", str(tmp_path / "results"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch, capsys, more):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cli.main(app, ["table1", "--device", "cuda", *more, "--results", str(tmp_path / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device cuda" in line
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_named(command, tmp_path: Path):
    (tmp_path / "file").write_text("")
    finished = command("benchmark.sweep", "table1", "--results", str(tmp_path / "file"))
    assert_one_line_refusal(finished, "--results", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[: len(content) // 2], ["truncated"]),
        (lambda content: content.replace(b'"schema": 1', b'"schema": 2', 1), ["schema version 2"]),
        (lambda content: content.replace(b'"final"', b'"finaL"', 1), ["checksum"]),
        (lambda content: b"", ["truncated"]),
    ],
)
def test_a_damaged_record_stops_the_sweep_and_repair_trains_the_cell_again(untouched, tmp_path, damage, words):
    store = Store(tmp_path / "copy")
    shutil.copytree(untouched.path, store.path)
    path = sorted(store.path.glob("records/*/*ALLR*"))[0]
    path.write_bytes(damage(path.read_bytes()))
    for options in ((), ("--dry-run",)):
        assert_one_line_refusal(sweep(store.path, *options), path.name, "--repair", *words)
    repaired = sweep(store.path, "--repair", "--workers", "1")
    assert repaired.returncode == 0, repaired.stderr
    assert results(store) == results(untouched)
    assert len(list((store.path / "set-aside").iterdir())) == 1
