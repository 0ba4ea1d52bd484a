"""Sentences under a table: the problem, where its records come from, and what of them could not be used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.claims import per_cent
from analysis.tables import Entry
from benchmark.cells import UNSAFE, Problem
from benchmark.errors import UserError
from benchmark.metric import Metric
from benchmark.planning.grid import load_problem

MADE = {"scenes": " (semi-synthetic)", "numbers": " (synthetic)"}
"""What a reader has to know of data sets that nobody photographed or wrote."""


def printable(text: object) -> str:
    """Without control characters: records come from elsewhere, and a terminal obeys what it is sent."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def filtered(only: Sequence[str]) -> list[str]:
    """What is said where not all cells of a sweep are shown."""
    return [f"Only {' or '.join(dict.fromkeys(only))}."] if only else []


def filtered_name(name: str, only: Sequence[str]) -> str:
    """The name of a file that shows chosen cells, beside that of all."""
    return "-".join([name, *(["-or-".join(UNSAFE.sub("-", text) for text in dict.fromkeys(only))] if only else [])])


def statistic(seeds: Iterable[int], expected: int, entries: Sequence[Entry], metric: Metric) -> str:
    """What an entry is, n, and how complete the table is; entries: those of the metric."""
    entries = [entry for entry in entries if entry.n is not None]
    missing = sum(entry.n == 0 for entry in entries)
    partial = sum(entry.is_partial for entry in entries) - missing
    run = sorted(set(seeds))
    if not run:
        return f"Test {metric.label} of the final epoch{metric.in_unit}{metric.direction}: no seed that tests has run."
    n = f"n = {expected} seeds" if expected > 1 else "n = 1 seed"
    so_far = "so far seed " if len(run) < expected else ""
    sentence = (
        f"Test {metric.label} of the final epoch{metric.in_unit}{metric.direction}: "
        f"mean ± sample standard deviation (ddof = 1) over {n} ({so_far}{_list(run)})."
    )
    if missing:
        sentence += f" {missing} of {len(entries)} entries have no record (–)."
    if partial:
        sentence += (
            f" {partial} of {len(entries)} have fewer seeds than {expected}, and show how many, as in 1/{expected}."
        )
    return sentence


def problem(recipe: Problem) -> str:
    """The recipe in short, and where it differs from the problem's file."""
    width = f" of width {recipe.width}" if recipe.width else ""
    made = MADE.get(recipe.dataset, "")
    given = f"; the dense network is the one of --weights ({recipe.weights})" if recipe.weights else ""
    precision = "" if recipe.precision == "fp32" else f", {recipe.precision}"
    return (
        f"Problem {recipe.name}: {recipe.model}{width} on {recipe.dataset}{made}, {recipe.epochs} epochs, "
        f"batch size {recipe.batch_size}{precision}; {_images(recipe)}{given}{_changes(recipe)}."
    )


def _images(recipe: Problem) -> str:
    """How many of the training images it trained on; records have their share and not their number."""
    what = "images" if recipe.task == "classification" else "data"
    trained = recipe.training_share * (1 - recipe.validation_fraction)
    held_out = f"{per_cent(recipe.validation_fraction)} held out for validation"
    return f"trained on {per_cent(round(trained, 4))} of the training {what}, {held_out}"


def recipe_name(recipe: Problem) -> str:
    """For the names of files: the problem's, with the recipe's hash where it is not that of sweeps/problems/."""
    plain = _plain(recipe)
    return recipe.name if plain and plain.identity == recipe.identity else f"{recipe.name}-{recipe.identity}"


def _plain(recipe: Problem) -> Problem | None:
    """The recipe of sweeps/problems/NAME.yaml."""
    try:
        return load_problem(recipe.name)[0]
    except UserError:
        return None


def _changes(recipe: Problem) -> str:
    plain = _plain(recipe)
    if plain is None:
        return f" (recipe {recipe.identity}, of a problem file that is not in sweeps/problems/)"
    here, there = recipe.model_dump(mode="json"), plain.model_dump(mode="json")
    changed = [
        f"{key} {here[key]} instead of {there[key]}" for key in here if here[key] != there[key] and key != "weights"
    ]
    return f"; not the recipe of sweeps/problems/{recipe.name}.yaml: {', '.join(changed)}" if changed else ""


def dense(frame: pd.DataFrame, metric: Metric) -> str:
    """How good the networks are that were pruned, one a seed, out of the dense runs or the records of their pruning."""
    scores = metric.shown(frame["dense_test"].where(frame["method"] != "dense", frame["final_test"]))
    values = scores.groupby(frame["seed"]).mean().dropna()
    if values.empty:
        return f"Dense {metric.label}: not recorded."
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    sentence = f"Dense {metric.label} {values.mean():.2f}{spread} (n = {len(values)})."
    parents = frame[frame["dense_weights"] != ""].groupby("seed")["dense_weights"].nunique()
    mixed = list(parents[parents > 1].index)
    if mixed:
        sentence += f" Not paired: records of seed {_list(mixed)} start from different dense networks."
    return sentence


def provenance(frame: pd.DataFrame, problems: int) -> str:
    """Where the records are, who made them, and how many files could not be used."""
    commits = dict.fromkeys(
        commit[:7] + (" with uncommitted changes" if dirty else "")
        for commit, dirty in zip(frame["commit"], frame["dirty"], strict=True)
        if commit
    )
    parts = [f"Records: {len(frame)} from {_list(list(frame['source'].unique()))}"]
    if commits:
        parts.append(f"commit{'s' if len(commits) > 1 else ''} {_list(list(commits))}")
    if len(set(frame["code"]) - {""}) > 1:
        parts.append(f"{len(set(frame['code']) - {''})} versions of the code that decides results")
    parts += _versions(frame["versions"])
    devices = [device for device in dict.fromkeys(frame["device"]) if device]
    if devices:
        parts.append(_list(devices))
    sentence = "; ".join(parts) + "."
    if problems:
        sentence += f" {problems} record{'s' if problems > 1 else ''} there could not be used (named on stderr)."
    return printable(sentence)


def _versions(column: pd.Series) -> list[str]:
    """The versions of torch, and which libraries differ between records."""
    libraries: dict[str, dict[str, None]] = {}
    for text in column.unique():
        for library, version in json.loads(text).items():
            libraries.setdefault(str(library), {})[str(version)] = None
    differing = [f"{library} {_list(list(versions))}" for library, versions in libraries.items() if len(versions) > 1]
    if differing:
        return [f"library versions differ: {', '.join(differing)}"]
    return [f"torch {next(iter(libraries['torch']))}"] if "torch" in libraries else []


def _list(values: Sequence[object]) -> str:
    shown = [str(value) for value in values[:6]]
    return ", ".join(shown) + (f" and {len(values) - 6} more" if len(values) > 6 else "")
