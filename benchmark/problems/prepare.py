"""Before a sweep starts: are the data there, and can they be read? Imports no torch unless it has to fetch them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmark.cells import Problem
from benchmark.problems.folder import DEFAULT_FOLDER, EMBEDDED, check_classes, find, list_images
from benchmark.problems.sources import download, open_source


def prepare(problem: Problem, folder: Path | None, fetch: bool, console: Console) -> None:
    """Fetch the data if asked to, look at them, and decode small images once for all workers, with a progress bar.

    Raises UserError in one line where something is missing, cannot be read or does not fit the recipe.
    """
    if problem.dataset in EMBEDDED:
        return
    where = folder or DEFAULT_FOLDER
    if fetch:
        download(problem, where)
    found = find(problem, where)
    if problem.resized_crop:  # streamed
        check_classes(problem, len(list_images(found.root).classes), found.root)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"decoding {problem.dataset}", total=None)
        open_source(problem, where, lambda done, total: bar.update(task, completed=done, total=total))
