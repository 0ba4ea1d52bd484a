"""How long a report takes to make and to open: python -m benchmark.measure.report [--records 1000].

Makes a store of synthetic records, results of nothing, in a temporary folder (no two share a learning-rate curve, which
makes the largest page), makes its report as `make_report` does, opens it in headless Chromium if there is one with
selenium and chromedriver, prints the seconds of each and deletes it all.
"""

from __future__ import annotations

import itertools
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.report import page
from analysis.report.gather import gather
from analysis.wandb_runs import open_source
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.measure.reading import synthetic_cells, synthetic_record
from benchmark.results.records import encode
from benchmark.results.store import Store

FAILURES = 20
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000")
TIMES = """
const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint");
return [paint.length ? paint[0].startTime : 0, page.domContentLoadedEventEnd, page.loadEventEnd];
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def benchmark_report(
    records: Annotated[int, typer.Option(help="How many synthetic records.")] = 1000,
    repeats: Annotated[int, typer.Option(help="How often to make it and to open it; the median counts.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to make the temporary store.")] = None,
) -> None:
    """Time making and opening the report of synthetic records."""
    for name, number in (("records", records), ("repeats", repeats)):
        if number < 1:
            raise UserError(f"--{name} {number}: a number above 0")
    with tempfile.TemporaryDirectory(prefix="synthetic-report-", dir=folder) as path:
        fill(Path(path) / "runs", records)
        output = Path(path) / "report.html"
        made = [make(Path(path), output) for _ in range(repeats)]
        print(f"report of {records} records and {FAILURES} failures: {output.stat().st_size / 1e6:.1f} MB")
        wall, busy = zip(*made, strict=True)
        print(f"made in {_spread(wall)} s, of the processor {_spread(busy)} s")
        opened = [open_page(output) for _ in range(repeats)]
        times = [found for found in opened if found is not None]
        if not times:
            print("not opened: there is no chromium with chromedriver and selenium here")
            return
        for name, values in zip(
            ("first paint", "content loaded", "load finished"), zip(*times, strict=True), strict=True
        ):
            print(f"opened in Chromium, {name} after {_spread(values)} s")


def fill(store: Path, count: int) -> None:
    """A store of `count` synthetic records and FAILURES failures."""
    live = Store(store)
    for cell in itertools.islice(synthetic_cells(), count):
        made = synthetic_record(cell, 0.9 + 0.05 * random.Random(cell.id).random())  # noqa: S311
        made["learning_rate"]["sha256"] = made["id"]
        file = live.record_path(cell.id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(made))
    for number in range(FAILURES):
        name = f"digits-IMP-ALLR-s0.9-b2.22pct-seed{900 + number}-000000000000"
        live.add_failure(name, "error", "synthetic", "Traceback (most recent call last):\n  synthetic\n" * 10)


def make(results: Path, output: Path) -> tuple[float, float]:
    """Seconds to read the records and write the page, in this process: by the clock, and of the processor.

    The second tells how busy the machine was with other things.
    """
    start, busy = time.perf_counter(), time.process_time()
    output.write_text(page.write(gather(open_source(results, None, whole=True))), encoding="utf-8")
    return time.perf_counter() - start, time.process_time() - busy


def open_page(path: Path) -> tuple[float, ...] | None:
    """Seconds from the start of navigation to first paint, to the content and to the end of loading, in a new browser.

    None where there is no browser.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not chromium or not driver:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in OPTIONS:
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.get(path.as_uri())
        milliseconds: Any = browser.execute_script(TIMES)
        return tuple(float(value) / 1000 for value in milliseconds)
    finally:
        browser.quit()


def _spread(seconds: Any) -> str:
    """Median and range."""
    values = sorted(seconds)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    sys.exit(main(app, prints_only=True))
