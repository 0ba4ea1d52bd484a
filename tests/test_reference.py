"""The committed reference runs: what a fresh clone shows is what they say, and what the README says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from analysis.make_findings import sections, side_by_side
from analysis.make_tables import write_files
from analysis.paper.sheets import make_sheets
from analysis.render import WRITERS, Sheet
from benchmark import cli
from benchmark.export import app
from benchmark.planning.grid import load_sweep
from benchmark.results.store import Store, read_compact, write_compact
from tests.conftest import ROOT, assert_one_line_refusal

REFERENCE = ROOT / "results" / "reference"
PLACE = Path("results/reference")


def mean(rows: list[dict]) -> float:
    return 100 * sum(row["accuracy"]["final"]["test"] for row in rows) / len(rows)


@pytest.fixture(scope="module")
def table1() -> list[dict]:
    return list(read_compact(REFERENCE / "table1-digits.jsonl"))


def test_table1_is_complete_and_from_one_state_of_the_code(table1: list[dict]):
    cells = {cell.id for cell in load_sweep("table1", seeds="20").cells}
    assert cells <= {record["id"] for record in table1}
    assert len(table1) == len(cells) + 20
    assert {record["provenance"]["dirty"] for record in table1} == {False}
    assert len({record["provenance"]["code"] for record in table1}) == 1


def test_digits_show_the_papers_effect(table1: list[dict]):
    def of(schedule: str, sparsity: float, budget: str) -> float:
        wanted = (schedule, sparsity, budget)
        keys = ("schedule", "sparsity", "budget")
        return mean([row for row in table1 if tuple(row["cell"][key] for key in keys) == wanted])

    assert mean([row for row in table1 if row["cell"]["method"] == "dense"]) >= 97
    assert of("ALLR", 0.9, "2.22%") - of("FT", 0.9, "2.22%") >= 15
    for budget in ("2.22%", "5.55%", "11.11%"):
        column = [of(schedule, 0.7, budget) for schedule in ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")]
        assert max(column) - min(column) <= 2.5


def test_the_readme_shows_the_table_that_the_command_prints(command):
    """The sweep's own three seeds, of the twenty that are committed."""
    options = ("--seeds", "3", "--results", str(REFERENCE), "--format", "markdown")
    finished = command("analysis.make_tables", "table1", *options)
    assert finished.returncode == 0, finished.stderr
    shown = re.search(r"<!-- table1:.*?-->\n(.*?)<!-- end", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None
    rows = [line for line in shown[1].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6
    for row in rows:
        assert row in finished.stdout


def test_the_readme_shows_where_numbers_of_another_processor_will_lie(command):
    options = ("--results", str(REFERENCE), "--format", "markdown", "--elsewhere", "3")
    finished = command("analysis.make_tables", "table1", "--problem", "digits", *options)
    shown = re.search(r"<!-- elsewhere:.*?-->\n(.*?)<!-- end", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None
    rows = [line for line in shown[1].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    for row in rows:
        assert row in finished.stdout


def test_the_runs_of_another_processor_lie_where_these_say(command):
    """As README and docs/findings.md have it; and no committed record of the two is the same."""
    there = REFERENCE / "elsewhere" / "table1-digits.jsonl"
    options = ("--results", str(REFERENCE), "--format", "markdown", "--elsewhere", str(there))
    shown = command("analysis.make_tables", "table1", "--problem", "digits", *options).stdout
    assert "51 of 54 means lie in theirs" in shown
    assert shown.count(" not in ") == 3
    paired = re.search(r"there minus here\n(.*?)\nMean difference", shown, re.S)
    assert paired is not None
    apart = [float(low) > 0 or float(high) < 0 for low, high in re.findall(r"\((\S+) to (\S+)\)", paired[1])]
    assert (sum(apart), len(apart)) == (6, 54)  # docs/findings.md: FT and LRW at 90 %
    assert "51 of the 54 means lie in their 95 % ranges" in (ROOT / "README.md").read_text().replace("\n", " ")
    here, others = (
        {record["id"]: record for record in read_compact(file)} for file in (REFERENCE / "table1-digits.jsonl", there)
    )
    assert others.keys() < here.keys()
    assert {record["provenance"]["data"] for record in (*here.values(), *others.values())} == {"7988bdc98e1dbe6c"}
    assert not [name for name, record in others.items() if record["history"] == here[name]["history"]]


@pytest.fixture(scope="module")
def sheets() -> list[Sheet]:
    """Of all committed records, which captions name as someone in the checkout would."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        return make_sheets([], PLACE)


@pytest.mark.parametrize(
    ("page", "block", "write"),
    [
        ("docs/findings.md", "findings", lambda sheets: sections(sheets, f"--results {PLACE}")),
        ("README.md", "claims", side_by_side),
    ],
)
def test_the_pages_say_of_the_claims_what_the_committed_runs_say(sheets, page, block, write):
    """make_findings prints them as they stand there: after new runs, paste what it prints."""
    shown = re.search(rf"<!-- {block}:.*?-->\n(.*?)<!-- end", (ROOT / page).read_text(), re.S)
    assert shown is not None
    assert shown[1].strip() == write([sheet for sheet in sheets if sheet.findings]).strip()


def test_the_committed_tables_are_those_of_the_committed_records(sheets, tmp_path: Path):
    """After new runs: python -m analysis.make_tables --results results/reference --output results/reference."""
    write_files(sheets, list(WRITERS), tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in REFERENCE.iterdir() if path.is_file() and path.suffix != ".jsonl"}
    for name in sorted(made):
        assert (tmp_path / name).read_text().splitlines() == (REFERENCE / name).read_text().splitlines(), name


def test_the_command_prints_the_claims_of_a_sweep_that_it_is_asked_for(command):
    printed = command("analysis.make_findings", "table1", "--results", str(REFERENCE / "table1-digits.jsonl"))
    assert printed.stdout.startswith("## table1, digits\n")
    assert "| ALLR is best: above every other schedule (averaged over the columns) | not held |" in printed.stdout


def test_three_seeds_decide_none_of_the_claims():
    for name, seeds in (("table1", "0,1,2"), ("table2", "10,11,12")):
        (sheet,) = make_sheets([name], REFERENCE, "digits", seeds)
        tested = [found for found in sheet.findings if found.verdict != "by construction"]
        assert {found.verdict for found in tested} == {"undecided"}
        assert all("too few for a test" in found.figures for found in tested)


def test_an_export_holds_the_records_of_a_sweep_and_its_dense_runs(command, table1: list[dict], tmp_path: Path):
    store, some = Store(tmp_path / "store"), [record for record in table1 if record["cell"]["seed"] < 3]
    for record in some:
        store.commit(record)
    options = ("--seeds", "3", "--results", str(store.path), "--output", str(tmp_path))
    finished = command("benchmark.export", "table1", *options)
    assert finished.returncode == 0, finished.stderr
    assert "165 of 165 records" in finished.stdout
    exported = list(read_compact(tmp_path / "table1-digits.jsonl"))
    assert sorted(exported, key=lambda record: record["id"]) == sorted(some, key=lambda record: record["id"])
    write_compact(tmp_path / "again.jsonl", table1)
    assert (tmp_path / "again.jsonl").read_bytes() == (REFERENCE / "table1-digits.jsonl").read_bytes()


def test_an_export_finds_the_cells_of_a_recipe_that_was_changed(command, tmp_path: Path):
    recipe = ("--set", "epochs=45", "--set", "milestones=[15,30,40]")
    options = (*recipe, "--results", str(tmp_path / "none"), "--output", str(tmp_path))
    assert_one_line_refusal(command("benchmark.export", "table1", *options), "no records of table1")
    wrong = command("benchmark.export", "table1", "--set", "epoch=45", "--results", str(tmp_path / "none"))
    assert_one_line_refusal(wrong, "epoch")


def test_an_export_of_nothing_says_how_to_make_records(command, tmp_path: Path):
    finished = command("benchmark.export", "table1", "--results", str(tmp_path / "none"), "--output", str(tmp_path))
    assert_one_line_refusal(finished, "--results", "benchmark.sweep table1")
    assert not list(tmp_path.iterdir())


def test_an_export_replaces_no_file_that_holds_records_which_it_would_lose(table1: list[dict], tmp_path: Path, capsys):
    """Records of another recipe and an incomplete export alike; the same cells, or more of them, are exported again."""
    store = Store(tmp_path / "store")
    for record in table1[:30]:
        store.commit(record)
    path = tmp_path / "table1-digits.jsonl"
    arguments = ["table1", "--seeds", "20", "--results", str(store.path), "--output", str(tmp_path)]
    for there in (table1[:3], table1[:30]):
        write_compact(path, there)
        assert cli.main(app, arguments) == 1, "incomplete, but it holds all that the file held"
    write_compact(path, table1)
    before = path.read_bytes()
    assert cli.main(app, arguments) == 2
    assert path.read_bytes() == before
    (line,) = capsys.readouterr().err.splitlines()
    for word in (str(path), "1070 of its 1100 records would be lost", "the 30 to export", "--output DIR", "--force"):
        assert word in line
    other = json.loads(json.dumps(table1[0]))
    other["parameters_sha256"] = "0" * 12
    write_compact(path, [other])
    assert cli.main(app, arguments) == 2, "another machine's result of the same cell"
    path.write_bytes(b"{}\n")
    for more in ([], ["--add"]):
        assert cli.main(app, [*arguments, *more]) == 2, "a line that nothing reads may be a record of another version"
    path.write_bytes(before)
    assert cli.main(app, [*arguments, "--force"]) == 1
    assert list(read_compact(path)) == table1[:30]


def test_seeds_that_two_machines_trained_are_added_to_one_file(table1: list[dict], tmp_path: Path, capsys):
    here, path = Store(tmp_path / "here"), tmp_path / "table1-digits.jsonl"
    first, second = ([record for record in table1 if record["cell"]["seed"] == seed] for seed in (0, 1))
    other = json.loads(json.dumps(first[0]))
    other["parameters_sha256"] = "0" * 12
    for record in [other, *second]:
        here.commit(record)
    write_compact(path, first)
    arguments = ["table1", "--seeds", "2", "--results", str(here.path), "--output", str(tmp_path), "--add"]
    assert cli.main(app, arguments) == 0
    assert {record["id"]: record for record in read_compact(path)} == {one["id"]: one for one in [*first, *second]}
    printed = capsys.readouterr()
    assert "110 of 110 records" in printed.out
    (line,) = printed.err.splitlines()
    assert first[0]["id"] in line
    assert cli.main(app, ["table1", "--seeds", "1,", *arguments[3:]]) == 0
    assert "55 of 55 records, beside 55 of other cells" in capsys.readouterr().out
    assert cli.main(app, [*arguments, "--force"]) == 2
