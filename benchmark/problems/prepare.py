"""Before a sweep starts: check, fetch and decode its data. Imports torch only to fetch them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmark.cells import Problem
from benchmark.problems.cache import Labels
from benchmark.problems.examples import has_examples, open_examples
from benchmark.problems.fits import check_split
from benchmark.problems.folder import EMBEDDED, check_classes, find, list_images
from benchmark.problems.sources import download, open_source


def prepare(problem: Problem, folder: Path | None, fetch: bool, console: Console, given: Path | None = None) -> None:
    """Fetch the data if `fetch` is set, check them, and decode small images once for all workers.

    Raises UserError if something is missing, cannot be read or does not fit the recipe.
    """
    if has_examples(problem):
        examples = open_examples(problem, folder, given)
        _print(examples.remarks, console)
        check_split(problem, [len(examples.training)], examples.validation is None)
        return
    if problem.dataset in EMBEDDED:
        _check_split(problem, open_source(problem).training.labels)
        return
    if fetch:
        download(problem, folder)
    root = find(problem, folder).root
    if problem.resized_crop:  # streamed
        listing = list_images(root)
        check_classes(problem, len(listing.classes), root)
        _print(listing.remarks, console)
        _check_split(problem, [label for _, label in listing.training])
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"decoding {problem.dataset}", total=None)
        source = open_source(problem, folder, lambda done, total: bar.update(task, completed=done, total=total))
    _print(source.remarks, console)
    _check_split(problem, source.training.labels)


def _print(remarks: Iterable[str], console: Console) -> None:
    for remark in remarks:
        console.print(remark, soft_wrap=True, highlight=False, markup=False)


def _check_split(problem: Problem, labels: Labels | list[int]) -> None:
    check_split(problem, np.bincount(labels).tolist())
