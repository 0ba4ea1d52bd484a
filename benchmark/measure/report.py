"""How long a report takes to make and to open."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from analysis.make_report import report_of
from analysis.report import page
from analysis.wandb_runs import open_source
from benchmark.measure.synthetic import fill
from benchmark.measure.timing import spread, timed
from benchmark.results.store import Store

FAILURES = 20
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000")
MOMENTS = ("first paint", "content loaded", "load finished")
TIMES = """
const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint");
return [paint.length ? paint[0].startTime : 0, page.domContentLoadedEventEnd, page.loadEventEnd];
"""


def make_and_open(records: int, repeats: int, folder: Path | None) -> Iterator[str]:
    """Lines about the report of a synthetic store, made in `folder` for this and deleted.

    No two of its cells share a learning-rate curve, which makes the largest page. It is opened in headless Chromium,
    where that is installed with chromedriver and selenium.
    """
    with tempfile.TemporaryDirectory(prefix="synthetic-report-", dir=folder) as path:
        store, output = Store(Path(path) / "runs"), Path(path) / "report.html"
        fill(store, records, one_curve=False)
        for number in range(FAILURES):
            name = f"digits-IMP-ALLR-s0.9-b2.22pct-seed{900 + number}-000000000000"
            store.add_failure(name, "error", "synthetic", "Traceback (most recent call last):\n  synthetic\n" * 10)

        def make() -> None:
            output.write_text(page.write(report_of(open_source(Path(path), None, whole=True))), encoding="utf-8")

        made = [timed(make)[0] for _ in range(repeats)]
        yield f"report of {records} records and {FAILURES} failures: {output.stat().st_size / 1e6:.1f} MB"
        wall, processor = zip(*made, strict=True)
        yield f"made in {spread(wall)} s, of the processor {spread(processor)} s"
        opened = [times for _ in range(repeats) if (times := open_page(output))]
        if not opened:
            yield "not opened: there is no chromium with chromedriver and selenium that works here"
        for moment, values in zip(MOMENTS, zip(*opened, strict=True), strict=False):
            yield f"opened in Chromium, {moment} after {spread(values)} s"


def open_page(path: Path) -> tuple[float, ...] | None:
    """Seconds from the start of navigation to each of MOMENTS, in a new browser. None where none starts."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver and find_spec("selenium")):
        return None
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in OPTIONS:
        options.add_argument(argument)
    try:
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    except WebDriverException:
        return None
    try:
        browser.get(path.as_uri())
        milliseconds: Any = browser.execute_script(TIMES)
        return tuple(float(value) / 1000 for value in milliseconds)
    finally:
        browser.quit()
