"""Before a sweep starts: are the data there, and can they be read? Imports no torch unless it has to fetch them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmark.cells import Problem
from benchmark.problems.cache import Labels
from benchmark.problems.fits import check_split
from benchmark.problems.folder import DEFAULT_FOLDER, EMBEDDED, check_classes, find, list_images
from benchmark.problems.sources import download, open_source


def prepare(problem: Problem, folder: Path | None, fetch: bool, console: Console) -> None:
    """Fetch the data if asked to, look at them, and decode small images once for all workers, with a progress bar.

    Raises UserError in one line where something is missing, cannot be read or does not fit the recipe.
    """
    if problem.dataset in EMBEDDED:
        _check_split(problem, open_source(problem).training.labels)
        return
    where = folder or DEFAULT_FOLDER
    if fetch:
        download(problem, where)
    found = find(problem, where)
    if problem.resized_crop:  # streamed
        listing = list_images(found.root)
        check_classes(problem, len(listing.classes), found.root)
        _tell(listing.remarks, console)
        _check_split(problem, [label for _, label in listing.training])
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"decoding {problem.dataset}", total=None)
        source = open_source(problem, where, lambda done, total: bar.update(task, completed=done, total=total))
    _tell(source.remarks, console)
    _check_split(problem, source.training.labels)


def _tell(remarks: Iterable[str], console: Console) -> None:
    for remark in remarks:
        console.print(remark, soft_wrap=True, highlight=False, markup=False)


def _check_split(problem: Problem, labels: Labels | list[int]) -> None:
    check_split(problem, np.bincount(labels).tolist())
