"""`python -m benchmark.check METHOD`: does a pruning method keep what the suite promises of every method?

METHOD is a name in METHODS or "module:Class". A small network is trained on the embedded digits a few times, and a line
for each promise says whether it was kept. The exit code is 1 if one was not. With --problem in place of a method, a
task, a data set and a network are checked in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark import cli
from benchmark.cells import Scalar
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems import fits
from benchmark.problems.folder import complete

if TYPE_CHECKING:
    from benchmark.check_method import Promise

app = cli.make_app()


@app.command()
def main(
    method: Annotated[str | None, typer.Argument(help="A method of the table, or your own as module:Class")] = None,
    sparsity: Annotated[float | None, typer.Option(help="The target of a method; default 0.5")] = None,
    problem: Annotated[
        str | None, typer.Option(help="Instead of a method: a problem of sweeps/problems/, or a file of your own")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --problem: the folder of its data")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyperparameter: interval=2; with --problem a field: model=mine:network"),
    ] = None,
) -> int:
    """Check a method on a small network, or a task, a data set and a network, in a few seconds."""
    if method is not None and problem is not None:
        raise UserError("give a METHOD or --problem, not both: a method is checked on a small network of its own")
    if method is None and problem is None:
        raise UserError("give a METHOD, or --problem for a task, a data set and a network")
    if method is not None and data is not None:
        raise UserError(f"--data {data} is for --problem: a method is checked on digits, which need no folder")
    if problem is not None and sparsity is not None:
        raise UserError(f"--sparsity {sparsity:g} is for a METHOD: a problem is checked without pruning")
    if method is not None and method.endswith((".yaml", ".yml")):
        raise UserError(f"METHOD {method}: for a problem write --problem {method}")
    import torch

    torch.set_num_threads(1)
    settings = cli.parse_settings(set_ or [])
    if problem is not None:
        return _print_promises(_of_problem(problem, settings, data))
    return _print_promises(_of_method(str(method), settings, 0.5 if sparsity is None else sparsity))


def _of_problem(name: str, settings: dict[str, Scalar], folder: Path | None) -> Iterator[Promise]:
    recipe, _ = load_problem(name, settings)
    if fields := complete(folder)(recipe):  # as a sweep does
        recipe, _ = load_problem(name, {**fields, **settings})
    fits.refuse_unfit(recipe)
    from benchmark.check_method import Promise
    from benchmark.check_problem import check_problem

    return (Promise(*promise) for promise in check_problem(recipe, folder))


def _of_method(method: str, settings: dict[str, Scalar], sparsity: float) -> Iterator[Promise]:
    from benchmark.check_method import TINY, check, make_cell

    problem, _ = load_problem("digits", TINY)
    return check(make_cell(method, problem, sparsity, settings))


def _print_promises(promises: Iterator[Promise]) -> int:
    """The exit code: 1 if a promise is broken."""
    broken = 0
    for promise in promises:
        mark = "    " if promise.name == "cost" else "ok  " if promise.kept else "FAIL"
        print(f"{mark} {promise.name}: {promise.detail}", flush=True)
        broken += not promise.kept
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
