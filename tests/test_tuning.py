"""Choosing settings on validation accuracy, and the two stages of a sweep that tunes."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.paper.sheets import make_sheets
from benchmark.cells import Cell
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.methods import METHODS
from benchmark.planning.grid import Sweep, load_sweep
from benchmark.planning.tuning import choose, current, stages, tuned_only
from benchmark.results.store import Store, write_compact
from benchmark.sweep import app as sweep_app
from tests.conftest import assert_one_line_refusal

FILE = """
title: "two methods, tuned"
seeds: 3
{tuning}
recipe: {{epochs: 4, milestones: [2, 3], warmup_epochs: 1}}
grids:
  - {{method: GMP, sparsity: [0.5, 0.8], hyperparameters: {{interval: [1, 2]}}}}
  - {{method: LC, sparsity: [0.5], hyperparameters: {{decay: [1, 100, 1000]}}}}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return load_sweep(write(tmp_path))


def write(folder: Path, tuning: int = 1) -> str:
    path = folder / "mine.yaml"
    path.write_text(FILE.format(tuning=f"tuning: {{seeds: {tuning}}}" if tuning else ""))
    return str(path)


def record(cell: Cell, validation: float, test: float = 0.5) -> dict:
    accuracy = {"final": {"validation": validation, "test": test}}
    circumstances: dict = {"seconds": {}, "provenance": {}}
    return {"schema": 1, "id": cell.id, "cell": cell.to_json(), "accuracy": accuracy, **circumstances}


def finish(store: Store, cells: tuple[Cell, ...], best: dict[str, object]) -> None:
    """Records in which the settings in `best` are best on validation images and worst on test images."""
    for cell in cells:
        good = any(item in best.items() for item in cell.hyperparameters)
        store.commit(record(cell, 0.9 if good else 0.8, 0.1 if good else 0.9))


def test_the_best_setting_is_chosen_for_each_method_and_sparsity_on_validation_accuracy(sweep: Sweep):
    def validation(cell: Cell) -> float:
        settings = dict(cell.hyperparameters)
        if cell.method == "GMP":
            return 0.9 if (settings.get("interval", 1) == 2) == (cell.sparsity == 0.8) else 0.8
        return {1: 0.7, 100: 0.95, 1000: 0.6}[settings.get("decay", 1)]

    cells = [cell for cell in sweep.cells if cell.seed == 0]
    found = choose(record(cell, validation(cell), test=1 - validation(cell)) for cell in cells)
    assert found == {
        ("GMP", "", 0.5, ""): (),
        ("GMP", "", 0.8, ""): (("interval", 2),),
        ("LC", "", 0.5, ""): (("decay", 100),),
    }


def test_of_equal_settings_the_default_is_chosen_then_the_first(sweep: Sweep):
    default, second, third = [cell for cell in sweep.cells if cell.seed == 0 and cell.method == "LC"]
    for order in ([default, second, third], [third, second, default]):
        assert choose(record(cell, 0.9) for cell in order) == {("LC", "", 0.5, ""): ()}
    assert choose(record(cell, 0.9) for cell in (second, third)) == {("LC", "", 0.5, ""): (("decay", 100),)}
    assert choose(record(cell, 0.9) for cell in (third, second)) == {("LC", "", 0.5, ""): (("decay", 1000),)}
    runs = [
        record(second, 0.1),
        record(second.with_seed(1), 0.2),
        record(default, 0.15),
        record(default.with_seed(1), 0.15),
    ]
    assert choose(runs) == {("LC", "", 0.5, ""): ()}, "(0.1 + 0.2) / 2 is 0.15, whatever its last digit"


def test_a_setting_that_missed_the_target_wins_only_where_all_did(sweep: Sweep):
    """At another sparsity another accuracy is no merit; one of several runs that missed is enough."""
    default, second, third = [cell for cell in sweep.cells if cell.seed == 0 and cell.method == "LC"]
    missed = {"status": "missed_target"}
    runs = [record(default, 0.95) | missed, record(second, 0.8), record(third, 0.7)]
    assert choose(runs) == {("LC", "", 0.5, ""): (("decay", 100),)}
    twice = [*(record(cell.with_seed(1), 0.9) for cell in (default, second, third)), *runs]
    assert choose(twice) == {("LC", "", 0.5, ""): (("decay", 100),)}
    assert choose(made | missed for made in runs) == {("LC", "", 0.5, ""): ()}


def test_a_file_may_name_seeds_that_settings_compete_with_and_nothing_else(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE.format(tuning="tuning: {seeds: [100, 101, 102]}"))
    sweep, store = load_sweep(str(path)), Store(tmp_path / "runs")
    assert (sweep.seeds, sweep.tuning_seeds) == ((0, 1, 2), (100, 101, 102))
    assert {cell.seed for cell in stages(sweep, store).tuning} == {100, 101, 102}
    finish(store, stages(sweep, store).tuning, {"interval": 2, "decay": 100})
    found = stages(sweep, store).chosen
    assert {cell.seed for cell in found} == {0, 1, 2}
    assert len(found) == 3 * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tuning_seeds: 2", "unknown"),
        ("tuning: {seeds: []}", "list of seeds"),
        ("tuning: {seeds: [0], settings: 6}", "settings"),
    ],
)
def test_tuning_that_cannot_be_is_refused_in_one_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE.format(tuning=text))
    with pytest.raises(UserError, match=words) as caught:
        load_sweep(str(path))
    assert "tuning" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_does_not_win_by_a_seed_that_the_others_have_not(sweep: Sweep):
    first, second, _ = [cell for cell in sweep.cells if cell.seed == 0 and cell.method == "LC"]
    runs = [record(first, 0.8), record(first.with_seed(1), 1.0), record(second, 0.85)]
    assert choose(runs) == {("LC", "", 0.5, ""): (("decay", 100),)}


def test_means_are_over_all_tuning_seeds(sweep: Sweep):
    first, second, _ = [cell for cell in sweep.cells if cell.seed == 0 and cell.method == "LC"]
    runs = [record(first, 0.8), record(first.with_seed(1), 0.9), record(second, 0.95), record(second.with_seed(1), 0.7)]
    assert choose(runs) == {("LC", "", 0.5, ""): ()}


def test_first_every_setting_with_the_tuning_seeds_then_the_chosen_with_the_others(sweep: Sweep, tmp_path: Path):
    store = Store(tmp_path / "runs")
    at_first = stages(sweep, store)
    assert len(at_first.tuning) == 2 * 2 + 3
    assert {cell.seed for cell in at_first.tuning} == {0}
    assert at_first.chosen == ()
    assert len(at_first.open) == 3 * 2  # three contests, two more seeds each: what the sweep will cost is known
    finish(store, at_first.tuning, {"interval": 2, "decay": 100})
    then = stages(sweep, store)
    assert then.open == ()
    found = {(cell.method, cell.sparsity, cell.seed, cell.hyperparameters) for cell in then.chosen}
    assert found == {
        (method, sparsity, seed, setting)
        for seed in (1, 2)
        for method, sparsity, setting in [
            ("GMP", 0.5, (("interval", 2),)),
            ("GMP", 0.8, (("interval", 2),)),
            ("LC", 0.5, (("decay", 100),)),
        ]
    }


def test_a_contest_is_not_decided_while_one_of_its_cells_is_missing(sweep: Sweep, tmp_path: Path):
    store = Store(tmp_path / "runs")
    tuning = stages(sweep, store).tuning
    finish(store, tuple(cell for cell in tuning if cell.method == "GMP"), {"interval": 2})
    now = stages(sweep, store)
    assert {cell.method for cell in now.chosen} == {"GMP"}
    assert {cell.method for cell in now.open} == {"LC"}
    assert current(sweep, store).cells == now.tuning + now.chosen


def test_other_seeds_do_not_change_what_settings_compete_with(tmp_path: Path):
    store = Store(tmp_path / "runs")
    for asked in ({"seeds": "5,6"}, {"only": ["seed=2"]}, {"seeds": "1"}):
        sweep = load_sweep(write(tmp_path, tuning=2), **asked)
        assert {cell.seed for cell in stages(sweep, store).tuning} == {0, 1}
    finish(store, stages(sweep, store).tuning, {"interval": 2, "decay": 100})
    others = load_sweep(write(tmp_path, tuning=2), seeds="5,6")
    assert {cell.seed for cell in stages(others, store).chosen} == {5, 6}
    assert len(stages(others, store).chosen) == 3 * 2


def test_tuned_only_has_the_chosen_settings_with_all_seeds_asked_for(sweep: Sweep, tmp_path: Path):
    store = Store(tmp_path / "runs")
    with pytest.raises(UserError, match=r"7 of the 7 tuning cells of sweep mine have no record.*without --tuned-only"):
        tuned_only(sweep, store)
    finish(store, stages(sweep, store).tuning, {"interval": 2, "decay": 100})
    found = tuned_only(sweep, store)
    assert len(found.cells) == 3 * 3
    assert {cell.hyperparameters for cell in found.cells} == {(("interval", 2),), (("decay", 100),)}
    assert stages(found, store).tuning == found.cells  # nothing more is chosen among them
    other = tuned_only(load_sweep(str(tmp_path / "mine.yaml"), seeds="7,"), store)
    assert [cell.seed for cell in other.cells] == [7, 7, 7]


def test_tuned_only_takes_the_choice_from_the_reference_runs_where_the_store_has_none(sweep: Sweep, tmp_path: Path):
    store = Store(tmp_path / "runs")
    made = [record(cell, 0.9 if cell.hyperparameters else 0.8) for cell in stages(sweep, store).tuning]
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "mine-digits.jsonl", made)
    assert all(cell.hyperparameters for cell in tuned_only(sweep, store).cells)


def test_a_sweep_without_tuning_runs_all_of_its_cells(tmp_path: Path):
    sweep = load_sweep(write(tmp_path, tuning=0))
    assert stages(sweep, Store(tmp_path / "runs")).tuning == sweep.cells
    assert len(sweep.cells) == 3 * 7
    with pytest.raises(UserError, match="tunes nothing"):
        tuned_only(sweep, Store(tmp_path / "runs"))


def test_table_2_gives_every_method_the_same_number_of_settings():
    sweep = load_sweep("table2")
    assert {cell.method for cell in sweep.cells} == set(METHODS) - {"dense", "IMP"}
    assert {cell.sparsity for cell in sweep.cells} == {0.7, 0.8, 0.9}
    counts = {}
    for method in {cell.method for cell in sweep.cells}:
        for sparsity in (0.7, 0.8, 0.9):
            own = [cell for cell in sweep.cells if (cell.method, cell.sparsity) == (method, sparsity)]
            counts[method, sparsity] = len({cell.hyperparameters for cell in own})
    assert set(counts.values()) == {6}, counts


def test_the_command_tunes_chooses_and_goes_on_by_itself(tmp_path: Path, command):
    """Really trained: all settings with seed 0, then of each contest one setting with the other seeds."""
    path, folder = write(tmp_path), tmp_path / "runs"
    arguments = ("benchmark.sweep", path, "--results", str(folder), "--tracking", "off", "--only", "method=LC")
    before = command(*arguments, "--dry-run")
    assert "5 cells, 0 done, 5 to train" in before.stdout
    assert "2 of them with the settings that tuning will choose" in before.stdout
    ran = command(*arguments)
    assert "tuned: mine on digits: 2 cells, 0 done, 2 to train" in ran.stdout, ran.stdout + ran.stderr
    store = Store(folder)
    made = [Cell.from_json(made["cell"]) for made in store.records()]
    assert sorted(cell.seed for cell in made) == [0, 0, 0, 1, 2]
    decided = choose(record for record in store.records() if record["cell"]["seed"] == 0)
    assert {cell.hyperparameters for cell in made if cell.seed} == set(decided.values())
    again = command(*arguments)
    assert "0 cells trained" in again.stdout
    tuned = command(*arguments, "--tuned-only", "--seeds", "4")
    assert "1 cells trained" in tuned.stdout
    assert_one_line_refusal(command("benchmark.sweep", "table1", "--tuned-only"), "--tuned-only", "tunes nothing")


def test_the_peak_and_warm_up_of_a_schedule_can_be_tuned_for_every_entry(tmp_path: Path):
    """Really trained: the rates are the schedule's times the peak, and the table shows what was chosen."""
    path = tmp_path / "tuned.yaml"
    path.write_text(
        "title: LLR tuned\nseeds: 1\ntuning: {seeds: [7]}\n"
        "recipe: {epochs: 4, milestones: [2, 3], warmup_epochs: 1, training_share: 0.3}\n"
        "grids:\n  - {method: IMP, schedule: [LLR], sparsity: [0.5], budget: [1ep, 2ep],"
        " hyperparameters: {peak: [1, 0.1], warmup: [0.1, 0]}}\n"
    )
    results = tmp_path / "results"
    assert main(sweep_app, [str(path), "--results", str(results), "--tracking", "off", "--workers", "1"]) == 0
    records = [record for record in Store(results).records() if record["cell"]["method"] == "IMP"]
    assert len(records) == 2 * 4 + 2, "each setting with the seed that tunes, the best of each budget with the other"
    for record in records:
        settings = {"peak": 1, "warmup": 0.1, **record["cell"]["hyperparameters"]}
        assert record["cycles"][0]["peak"] == pytest.approx(0.1 * settings["peak"])
    (sheet,) = make_sheets([str(path)], results)
    assert [(row.label, [entry.n for entry in row.entries]) for row in sheet.tables[0].rows] == [("LLR", [1, 1])]
    words = " ".join(sheet.tables[0].caption)
    assert "over n = 1 seed (0)" in words
    assert "LLR, chosen from 4 settings: 50 % at 1ep: " in words
