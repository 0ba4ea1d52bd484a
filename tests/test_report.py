"""The report: whole, small, closed to the network and to scripts in values, and at work in a real browser."""

from __future__ import annotations

import csv
import itertools
import json
import random
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.make_report import app
from analysis.report import listing
from analysis.report.data import _shown
from benchmark.cli import main
from benchmark.measure.publishing import made_up_record
from benchmark.measure.synthetic import synthetic_cells, synthetic_record
from benchmark.metric import ACCURACY
from benchmark.results.store import Store
from tests.conftest import ROOT

NASTY = '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'"> & "quoted"'
TRACEBACK = f"Traceback (most recent call last):\n  File x\nValueError: {NASTY}</pre>"
FAILED = "digits-IMP-ALLR-s0.9-b2.22pct-seed900-000000000000"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def make_store(folder: Path, count: int) -> None:
    store = Store(folder / "runs")
    for cell in itertools.islice(synthetic_cells(), count):
        made = synthetic_record(cell, 0.9 + 0.05 * random.Random(cell.id).random())
        made["learning_rate"]["sha256"] = made["id"]  # the largest page: no two cells share a curve
        made["history"]["epoch"] = list(range(len(made["history"]["train_loss"])))
        made["remarks"] = [NASTY]
        made["provenance"]["device_name"] = NASTY
        store.commit(made)
    store.add_failure(FAILED, "error", NASTY, TRACEBACK, "end of the log")


def make_report(results: Path, output: Path, *arguments: str) -> int:
    return main(app, ["--results", str(results), "--output", str(output), *arguments])


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    make_store(folder, 60)
    assert make_report(folder, folder / "report.html") == 0
    return folder / "report.html"


class Outline(HTMLParser):
    """Elements with their attributes, in order, and the words that follow an id up to the next one.

    Scripts are not looked into.
    """

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, str] = {"": ""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if "id" in dict(attributes):
            self.words[dict(attributes)["id"]] = ""

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] not in ("script", "style"):
            self.words[list(self.words)[-1]] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# The file


def test_it_asks_for_nothing_from_anywhere(report):
    outline = Outline(report.read_text())
    for tag, attributes in outline.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    (policy,) = (m["content"] for m in outline.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_no_value_becomes_an_element_or_a_handler(report):
    outline = Outline(report.read_text())
    assert len(outline.of("script")) == 3
    assert all(not name.startswith("on") for _, attributes in outline.elements for name in attributes)
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in outline.of("img"))
    anchors = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(anchors) == len(set(anchors))


def test_it_reads_with_scripts_off(report):
    text = report.read_text()
    page = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for words in (
        "Where the records are from",
        "60 records",
        "1 cells that failed",
        "CPU-hours",
        "torch 0.0.0",
        "The paper&#x27;s claims",
    ):
        assert words in page, words
    assert page.count("<tr data-runs=") == 60
    assert "ValueError: &lt;script&gt;" in page
    assert (
        len(re.findall(r"<figure [^>]*>", page)) == len(re.findall(r'<img alt="[^"]*" src="data:image/svg', page)) >= 5
    )


def page_data_of(text: str) -> dict[str, Any]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_every_point_and_cell_names_records_that_are_on_the_page(report):
    text = report.read_text()
    data = page_data_of(text)
    named = {name for group in re.findall(r'data-runs="([^"]*)"', text) for name in group.split()}
    points = [
        point for plot in data["plots"].values() for trace in plot["data"] for point in trace.get("customdata", [])
    ]
    named |= {name for point in points for name in point.split()}
    assert points
    assert named == set(data["cells"])
    assert {cell["rate"] for cell in data["cells"].values()} <= set(data["curves"])


def test_of_many_records_a_page_lists_some_of_every_entry_and_a_file_beside_it_all(
    report, tmp_path, monkeypatch, capsys
):
    every = set(re.findall(r'<tr data-runs="([^"]*)"', report.read_text()))
    monkeypatch.setattr(listing, "MOST", 55)
    assert make_report(report.parent, tmp_path / "some.html") == 0
    assert "some-cells.csv: the list of all records, 55 of which are on the page" in capsys.readouterr().out
    text = (tmp_path / "some.html").read_text()
    on_the_page = set(re.findall(r'<tr data-runs="([^"]*)"', text))
    assert len(on_the_page) == 55
    assert on_the_page < every
    assert "55 of 60 records, some of every entry of the tables; some-cells.csv, beside this page, lists all." in text
    assert on_the_page == set(page_data_of(text)["cells"])
    entries = re.findall(r'<td[^>]* data-runs="([^"]*)"', text)
    assert len(entries) == len(re.findall(r'<td[^>]* data-runs="([^"]*)"', report.read_text()))
    assert {name for names in entries for name in names.split()} <= on_the_page
    with open(tmp_path / "some-cells.csv", encoding="utf-8") as file:
        assert {row["id"] for row in csv.DictReader(file)} == every


@pytest.mark.long
def test_a_thousand_records_stay_under_ten_megabytes(tmp_path: Path, capsys):
    make_store(tmp_path, 1000)
    assert make_report(tmp_path, tmp_path / "report.html") == 0
    assert "1000 records, 1 failures" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size < 10e6


def test_the_same_records_make_the_same_page(report, tmp_path: Path):
    assert make_report(report.parent, tmp_path / "again.html") == 0
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_a_store_with_failures_alone_has_a_report(tmp_path: Path):
    Store(tmp_path / "runs").add_failure(FAILED, "error", "out of memory", TRACEBACK)
    assert make_report(tmp_path, tmp_path / "report.html") == 0
    assert "out of memory" in (tmp_path / "report.html").read_text()


def test_failures_are_those_of_the_problem_and_of_no_other_whose_name_begins_with_it(tmp_path: Path):
    make_store(tmp_path, 3)
    store, other = Store(tmp_path / "runs"), made_up_record(0)
    other["cell"]["problem"]["name"] = "digits-wide"
    store.commit(other | {"id": "digits-wide-dense-seed0-000000000000"})
    for name, message in (("digits-wide-IMP-seed1-000000000000", "wide"), ("digits-IMP-seed1-000000000000", "narrow")):
        store.add_failure(name, "exception", f"the {message} one")
    assert make_report(tmp_path, tmp_path / "report.html", "--problem", "digits") == 0
    page = (tmp_path / "report.html").read_text()
    assert "the narrow one" in page
    assert "the wide one" not in page


def test_mistakes_get_one_line(tmp_path: Path, capsys):
    assert make_report(tmp_path, tmp_path / "report.html") == 2
    assert "no records in" in capsys.readouterr().err
    make_store(tmp_path, 3)
    assert make_report(tmp_path, tmp_path / "runs" / "records" / ".." / ".." / "runs") == 2
    assert "it is a folder; write a file" in capsys.readouterr().err
    assert make_report(tmp_path, tmp_path / "report.html", "--problem", "cifar10") == 2
    assert "no records of cifar10" in capsys.readouterr().err


def test_it_begins_with_claims_best_and_missing_and_ends_with_provenance(report):
    outline = Outline(report.read_text())
    parts = [a["id"] for tag, a in outline.elements if tag == "section" and a.get("class") == "part"]
    assert parts == ["summary", "table1-digits", "figures", "cells", "failures", "provenance"]
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    first = ids[: ids.index("table1-digits-measured")]
    assert first == ["summary", "claims", "best", "missing", "table1-digits"]
    assert "torch" not in "".join(outline.words[name] for name in first), "versions are for the end"
    assert "torch" in outline.words["provenance"]


def test_its_links_lead_to_what_is_on_the_page(report):
    outline = Outline(report.read_text())
    ids = {attributes.get("id") for _, attributes in outline.elements}
    assert {str(a["href"])[1:] for a in outline.of("a")} <= ids


def test_its_summary_says_what_is_undecided_and_has_no_record(report):
    words = Outline(report.read_text()).words
    assert "undecidedLRW equals FT at these budgets" in words["claims"]
    assert "1 failed cell without a record" in words["missing"]
    assert "54 of 54 entries have 1 to 2 seeds of 3" in words["missing"]


# In a browser


@pytest.fixture(scope="module")
def browser(report):
    selenium = pytest.importorskip("selenium", reason="selenium is not installed: the report is not tried in a browser")
    if not CHROMIUM or not DRIVER:
        pytest.skip("there is no chromium with chromedriver here: the report is not tried in a browser")
    from selenium import webdriver

    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, report):
    browser.get(report.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.title == "Pruning and retraining: report"


def until(condition, seconds: float = 20):
    """What `condition` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def find(page, selector: str):
    return page.find_elements("css selector", selector)


def texts(page, selector: str) -> list[str]:
    shown = "[...document.querySelectorAll(arguments[0])].filter(e => !e.closest('[hidden]'))"
    return page.execute_script(f"return {shown}.map(e => e.textContent)", selector)


def scroll_to(page, node) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)


def test_cells_sort_by_number_and_back_with_empty_ones_last(page):
    heads = texts(page, "#list th")
    column = heads.index("test") + 1
    (button,) = find(page, f"#list th:nth-child({column}) button")
    for sign in (1, -1):
        scroll_to(page, button)
        page.execute_script("arguments[0].click()", button)
        values = texts(page, f"#list td:nth-child({column})")
        numbers = [sign * float(value) for value in values if value]
        assert numbers == sorted(numbers)
        assert len(numbers) == 60
        assert values[-1] == ""


def test_cells_filter_by_words_and_status(page):
    (field,) = find(page, "#filter")
    scroll_to(page, field)
    field.send_keys("ALLR s0.9")
    shown = texts(page, "#list tbody tr")
    assert shown
    assert all("ALLR" in text for text in shown)
    assert texts(page, "#count") == [f"{len(shown)} of 61 cells"]
    field.clear()
    field.send_keys(" ")
    (status,) = find(page, "#status")
    status.send_keys("failed")
    assert [FAILED in text for text in texts(page, "#list tbody tr")] == [True]


def test_pointing_at_a_table_cell_shows_its_seeds_rates_and_history(page):
    from selenium.webdriver import ActionChains

    cell = find(page, "td[data-runs]")[0]
    ActionChains(page).move_to_element(cell).perform()
    until(lambda: find(page, "#inspector .curves .main-svg"))
    seeds = texts(page, "#inspector .seeds tbody tr")
    assert len(seeds) == len(cell.get_attribute("data-runs").split())
    assert NASTY in texts(page, "#inspector")[0]
    until(lambda: len(find(page, "#inspector .curves .scatterlayer .trace")) == 2 * len(seeds))
    (record,) = find(page, "#inspector details pre")
    for name in cell.get_attribute("data-runs").split():
        assert name in record.get_attribute("textContent")
    assert f"remarks: {NASTY}" in record.get_attribute("textContent")


def test_pointing_at_a_point_of_a_figure_shows_its_records(page):
    from selenium.webdriver import ActionChains

    figure = find(page, "figure[data-plot]")[0]
    scroll_to(page, figure)
    until(lambda: find(page, "figure[data-plot] .plot[data-ready]"))
    assert page.execute_script("return arguments[0].querySelector('img').hidden", figure)
    point = until(lambda: figure.find_elements("css selector", ".points path"))[0]
    ActionChains(page).move_to_element(point).perform()
    until(lambda: texts(page, "#inspector .seeds tbody tr"))


def test_markup_in_a_traceback_is_shown_and_does_not_run(page):
    (failure,) = find(page, "#failure-0")
    page.execute_script("arguments[0].open = true", failure)
    assert texts(page, "#failure-0 pre")[0] == TRACEBACK
    assert find(page, "#failure-0 script, #failure-0 img") == []


SCREEN = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}


def test_what_comes_first_is_one_screen(browser, tmp_path: Path):
    """Of the reference runs of a problem, and nothing of it has to be scrolled to."""
    assert make_report(ROOT / "results" / "reference", tmp_path / "report.html", "--problem", "digits") == 0
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
    browser.get((tmp_path / "report.html").as_uri())
    sizes = browser.execute_script(
        "const part = document.getElementById('summary'), box = part.getBoundingClientRect();"
        "return [box.top, box.bottom, part.scrollHeight - part.clientHeight, part.scrollWidth - part.clientWidth]"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert sizes[0] >= 0
    assert sizes[1] <= 800
    assert sizes[2:] == [0, 0]
    assert browser.get_log("browser") == []


def test_it_opens_in_the_dark_and_prints_its_figures(page):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    red = page.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert int(red) < 64
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    shown = "return [...document.querySelectorAll('figure img')].every(e => getComputedStyle(e).display !== 'none')"
    assert page.execute_script(shown)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_a_curve_is_drawn_through_the_epochs_that_have_a_validation():
    """Thinned first, few of them would be left of a long run."""
    epochs = list(range(1, 201))
    accuracies = [epoch / 200 if epoch % 5 == 0 else None for epoch in epochs]
    shown = _shown({"epoch": epochs, "train_loss": [1.0] * 200, "validation_accuracy": accuracies}, ACCURACY)
    assert shown["epoch"] == epochs[4::5]
    assert shown["validation"] == [100 * (epoch / 200) for epoch in epochs[4::5]]
    assert _shown({"epoch": [1, 2], "train_loss": [1.0, 2.0]}, ACCURACY) == {"epoch": [1, 2], "train_loss": [1.0, 2.0]}
    nothing = {"epoch": [1, 2], "validation_accuracy": [None, None]}
    assert _shown(nothing, ACCURACY) == {"epoch": [1, 2], "validation": [None, None]}
