"""From a sweep file to validated cells.

    sweeps/NAME.yaml            title, problem, seeds, and grids of methods x schedules x sparsities x budgets
    sweeps/problems/NAME.yaml   the recipe of a problem (benchmark.cells.Problem) and hints for running it

Errors are UserErrors that name the file, the key, the value and what is accepted.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmark.cells import MOST_EPOCHS, SLUG, Budget, Cell, Problem, Scalar, cut, shown
from benchmark.errors import UserError
from benchmark.methods import check_hyperparameters, declaration
from benchmark.planning.subset import RECIPE, filtered, ordered
from benchmark.training.schedules import resolve
from benchmark.yaml_files import is_file, is_piped, names_file, read_yaml, shipped, stem_of, validated

SWEEPS = shipped("sweeps")
MOST_SEEDS = 100_000
LARGEST_SEED = 2**63 - 1
MOST_CELLS = 2_000_000
"""Of a sweep; under a minute of planning."""
LONGEST_NAME = 100
"""Letters of a problem's name, which the names of all files of its cells begin with."""
MOST_THREADS = 4096
MOST_IMAGES = 10**12
MOST_ITERATIONS = 10**10
MOST_SECONDS = 1e9
DECAYS = (RECIPE, "linear", "cosine")
"""How the learning rate of a method that does not retrain decays: as in the recipe, or to 0 over all epochs."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Execution(_Strict):
    """How to run a problem; nothing here changes a result."""

    threads: int | None = Field(
        default=None, ge=1, le=MOST_THREADS, description="threads of a worker at most; default cores / workers"
    )
    training_images: int | None = Field(default=None, ge=1, le=MOST_IMAGES)
    seconds_per_epoch: float | None = Field(default=None, gt=0, le=MOST_SECONDS)


class ProblemFile(_Strict):
    about: str = ""
    recipe: dict[str, Any]
    execution: Execution = Execution()


class Grid(_Strict):
    """The product of its lists.

    Args:
        method: a name in METHODS, or the user's own as module:Class.
        sparsity: fractions pruned.
        schedule: of the learning rate; one of DECAYS for a method that does not retrain.
        budget: how long it retrains, each with its unit; empty for a method that does not retrain.
        hyperparameters: of the method, a list of values by name.
    """

    method: str
    sparsity: tuple[float, ...] = Field(min_length=1)
    schedule: tuple[str, ...] = ()
    budget: tuple[str, ...] = ()
    hyperparameters: dict[str, Annotated[tuple[Scalar, ...], Field(min_length=1)]] = Field(default_factory=dict)

    @field_validator("sparsity", mode="before")
    @classmethod
    def _fractions(cls, values: Any) -> Any:
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
                raise ValueError(f"{shown(value)} is not a fraction pruned: a number above 0 and below 1")
        return _tuple(values)

    @field_validator("budget", mode="before")
    @classmethod
    def _units(cls, values: Any) -> Any:
        for value in values if isinstance(values, list) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                raise ValueError(f"{shown(value)} has no unit: write '{cut(str(value))}%', '10ep' or '500it'")
        return _tuple(values)

    @field_validator("hyperparameters", mode="before")
    @classmethod
    def _scalars(cls, lists: Any) -> Any:
        if not isinstance(lists, dict):
            return lists
        for key, values in lists.items():
            for value in values if isinstance(values, list) else ():
                if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
                    raise ValueError(f"{cut(key)}: {shown(value)} is no finite number, text, true or false")
        return {key: _tuple(values) for key, values in lists.items()}

    @field_validator("budget")
    @classmethod
    def _budgets(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Budget.parse(value)) for value in values)


def _tuple(values: Any) -> Any:
    """What a validator hands on of a list that is not empty: a strict model takes a list from JSON alone."""
    return tuple(values) if isinstance(values, list) and values else values


class Tuning(_Strict):
    """How settings compete. seeds: a count N, for 0 to N - 1, or a list."""

    seeds: tuple[int, ...]

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, value: Any) -> tuple[int, ...]:
        return _seeds(value)


class SweepFile(_Strict):
    title: str
    problem: str = "digits"
    seeds: tuple[int, ...] = (0, 1, 2)
    tuning: Tuning | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    grids: tuple[Grid, ...] = Field(min_length=1)

    @property
    def tuned_with(self) -> tuple[int, ...]:
        """The seeds that settings compete with, none where nothing is tuned."""
        return self.tuning.seeds if self.tuning else ()

    @field_validator("title")
    @classmethod
    def _one_line_of_text(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("a title is one line of text, without control characters")
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, value: Any) -> tuple[int, ...]:
        return _seeds(value)


@dataclass(frozen=True)
class Sweep:
    """A named list of cells on one problem, in the order in which they should run.

    Args:
        name: of the sweep's file.
        title: of its tables.
        problem: the recipe.
        execution: hints for running it.
        seeds: that tables show.
        cells: where settings compete, all settings with all seeds; those that lose need no seeds but `tuning_seeds`.
        tuning_seeds: that settings compete with (planning/tuning.py); empty where none do.
    """

    name: str
    title: str
    problem: Problem
    execution: Execution
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    tuning_seeds: tuple[int, ...] = ()


def load_sweep(
    name: str,
    problem: str | None = None,
    seeds: str | int | Sequence[int] | None = None,
    only: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    order: str | Sequence[str] | None = None,
    folder: Path = SWEEPS,
    complete: Callable[[Problem], Mapping[str, Any]] = lambda problem: {},
) -> Sweep:
    """The cells of sweeps/NAME.yaml, or of a file of your own (`names_file`), with the command line's changes.

    Raises UserError.

    Args:
        name: of the sweep.
        problem: to run it on, as `name` is given; None for the file's own.
        seeds: a count ("5" is 0..4) or a list ("0,3,7"; "7," is the list of one); None for the file's own.
        only: filters such as "schedule=ALLR,sparsity=0.9"; a cell stays if it meets every part of any of them.
        settings: recipe fields to override.
        order: axes, outermost first.
        folder: where files are looked for by name.
        complete: gives settings for what the recipe leaves open, such as the classes that an image folder has.
    """
    path = _find(folder, name, "sweep")
    content = read_yaml(path)
    if isinstance(content, dict) and "recipe" in content and not {"title", "grids"} & content.keys():
        raise UserError(f"{path}: this is a problem, not a sweep: --problem takes it, as in: table1 --problem {path}")
    file = validated(SweepFile, content, path)
    given = {**file.recipe, **(settings or {})}
    if problem is None:
        problem = file.problem
        try:
            _find(folder / "problems", problem, "problem")
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    try:
        chosen, execution = load_problem(problem, given, folder)
    except UserError as error:
        if not file.recipe:
            raise
        load_problem(problem, settings, folder)  # raises where the mistake is not in this file
        raise UserError(f"{path}: {error}") from None
    if fields := complete(chosen):
        chosen, execution = load_problem(problem, {**fields, **given}, folder)
    seed_list = file.seeds if seeds is None else parse_seeds(seeds)
    tuning = file.tuned_with
    cells: list[Cell] = []
    for number, grid in enumerate(file.grids):
        try:
            cells += _cells(grid, chosen, tuple(dict.fromkeys([*tuning, *seed_list])))
        except UserError as error:
            raise UserError(f"{path}: grids.{number}: {error}") from None
        if len(cells) > MOST_CELLS:
            raise UserError(f"{path}: more than {MOST_CELLS} cells; give fewer values or seeds")
    kept = filtered(list(dict.fromkeys(cells)), only)
    if tuning:  # a filter on seeds leaves the choice possible
        kept = list(dict.fromkeys([*kept, *(cell.with_seed(seed) for cell in kept for seed in tuning)]))
    cells = ordered(kept, order)
    return Sweep(stem_of(str(path)), file.title, chosen, execution, seed_list, tuple(cells), tuning)


def sweep_names() -> list[str]:
    """Of the sweeps that come with the suite."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def problem_names() -> list[str]:
    return sorted(path.stem for path in (SWEEPS / "problems").glob("*.yaml"))


def load_problem(
    name: str, settings: Mapping[str, Any] | None = None, folder: Path = SWEEPS
) -> tuple[Problem, Execution]:
    """A problem of sweeps/problems/ with recipe fields overridden. Raises UserError."""
    path = _find(folder / "problems", name, "problem")
    file = validated(ProblemFile, read_yaml(path), path)
    for key in settings or {}:
        if key not in Problem.model_fields or key == "name":
            accepted = ", ".join(key for key in Problem.model_fields if key != "name")
            raise UserError(f"{shown(key)} is not a setting of a recipe: one of {accepted}")
    name = stem_of(str(path))
    if len(name) > LONGEST_NAME:
        raise UserError(f"problem {cut(name)}: a name of {len(name)} letters, where {LONGEST_NAME} fit into file names")
    base = validated(Problem, {"name": name, **file.recipe}, path, "recipe")
    recipe = base
    if settings:
        changed = {**base.model_dump(exclude_unset=True), **settings}
        recipe = validated(Problem, changed, None, f"recipe of {name} with the settings given")
    _refuse_late_milestones(recipe, base)
    return recipe, file.execution


def _refuse_late_milestones(recipe: Problem, base: Problem) -> None:
    """A milestone that never comes would leave the learning rate of the dense run high, and with it FT's and LRW's."""
    if recipe.decay != "step" or not recipe.milestones or recipe.milestones[-1] < recipe.epochs:
        return
    fitting = ",".join(f"{milestone * recipe.epochs / base.epochs:g}" for milestone in base.milestones)
    advice = "" if recipe.epochs == base.epochs else f"; in proportion they would be --set 'milestones=[{fitting}]'"
    raise UserError(
        f"problem {recipe.name}: milestones {recipe.milestones[-1]:g} is not before the end at epochs {recipe.epochs}"
        + advice
    )


def parse_seeds(value: str | int | Sequence[int]) -> tuple[int, ...]:
    """A count or a list of seeds. Raises UserError."""
    try:
        return _seeds(value)
    except ValueError as error:
        raise UserError(f"seeds {error}") from None


def _seeds(value: Any) -> tuple[int, ...]:
    """Raises ValueError that says what is accepted."""
    given = value
    if isinstance(value, str):
        given = None
        if re.fullmatch(r"\s*[0-9]{1,20}\s*(,\s*[0-9]{1,20}\s*)*,?\s*", value):
            given = [int(part) for part in value.split(",") if part.strip()]
            given = given if "," in value else given[0]
    if _is_whole(given):
        seeds = tuple(range(min(given, MOST_SEEDS + 1)))
    elif isinstance(given, Sequence) and all(map(_is_whole, given)):
        seeds = tuple(dict.fromkeys(given))
    else:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) > LARGEST_SEED or len(seeds) > MOST_SEEDS:
        raise ValueError(
            f"{shown(value)}: a count above 0 such as 5, or a list of seeds from 0 up such as 0,3,7; "
            f"at most {MOST_SEEDS} of them, the largest {LARGEST_SEED}"
        )
    return seeds


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cells(grid: Grid, problem: Problem, seeds: Sequence[int]) -> list[Cell]:
    if grid.method == "dense":
        raise UserError("method dense prunes nothing: leave it out; cells train the dense runs that they start from")
    declared = declaration(grid.method)
    if declared.retrains and not (grid.schedule and grid.budget):
        raise UserError(f"method {grid.method} retrains: it needs a list of schedules and a list of budgets")
    if not declared.retrains and grid.budget:
        raise UserError(f"method {grid.method} does not retrain: leave budget out")
    if declared.retrains:
        for schedule in grid.schedule:
            resolve(schedule)
        schedules: list[str | None] = list(grid.schedule)
    else:
        schedules = [_decay(grid.method, name, problem) for name in grid.schedule]
    lists = (seeds, grid.sparsity, grid.budget or " ", grid.schedule or " ", *grid.hyperparameters.values())
    if (count := math.prod(map(len, lists))) > MOST_CELLS:
        raise UserError(f"{count} cells, more than {MOST_CELLS}; give fewer values or seeds")
    keys = list(grid.hyperparameters)
    settings = [
        check_hyperparameters(grid.method, _counts_whole(declared.defaults, dict(zip(keys, values, strict=True))))
        for values in itertools.product(*grid.hyperparameters.values())
    ]
    budgets: list[Budget | None] = [_affordable(Budget.parse(text), problem) for text in grid.budget]
    return [
        Cell(problem, grid.method, seed, schedule, sparsity, budget, setting)
        for seed in seeds
        for sparsity in grid.sparsity
        for budget in budgets or [None]
        for setting in settings
        for schedule in schedules or (None,)
    ]


def _decay(method: str, name: str, problem: Problem) -> str | None:
    """The schedule of a cell that does not retrain: None for the recipe's own decay."""
    if name not in DECAYS:
        raise UserError(f"method {method} does not retrain: schedule {cut(name)} is not one of {', '.join(DECAYS)}")
    return None if name in (RECIPE, problem.decay) else name


def _counts_whole(defaults: Mapping[str, Scalar], given: dict[str, Scalar]) -> dict[str, Scalar]:
    """`given` with 3e0 as 3 where the default is a whole number."""
    return {
        key: int(value)
        if isinstance(value, float) and value.is_integer() and isinstance(defaults.get(key), int)
        else value
        for key, value in given.items()
    }


def _affordable(budget: Budget, problem: Problem) -> Budget:
    """Raises UserError for one that nobody could wait for, nor any memory hold the learning rates of."""
    if budget.unit == "it":
        most = MOST_ITERATIONS
    else:
        most = MOST_EPOCHS if budget.unit == "ep" else 100 * MOST_EPOCHS // problem.epochs
    if budget.amount > most:
        raise UserError(f"budget {cut(str(budget))} is too long: up to {most}{budget.unit} is accepted")
    return budget


def _find(folder: Path, name: str, kind: str) -> Path:
    if names_file(name):
        if not is_piped(name) and not is_file(Path(name)):
            raise UserError(f"{kind} {name}: there is no such file")
        return Path(name)
    if not SLUG.fullmatch(name) or not is_file(folder / f"{name}.yaml"):
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        here = f"; perhaps {name}.yaml of this folder" if SLUG.fullmatch(name) and is_file(Path(f"{name}.yaml")) else ""
        raise UserError(f"{kind} {shown(name)} is unknown: there is {known} in {folder.name}/{here}")
    return folder / f"{name}.yaml"
