"""How sweeps of one kind are laid out: tables, what was published beside them, and the claims about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from analysis import captions, comparisons, smaller
from analysis.axes import Axes
from analysis.claims import Evidence, Finding
from analysis.frames import Records
from analysis.groups import RecipeGroup, groups
from analysis.render.sheet import Sheet
from analysis.tables import Column, Row, Table, agreement, ranked, score_columns
from benchmark.metric import ACCURACY


class Layout(ABC):
    """One kind of sweep. Unless a layout says otherwise nothing was published or claimed, and no rows are compared."""

    pairing = "one seed, one dense network"
    """What runs of one seed share."""
    claims: tuple[Callable[[Evidence], Finding], ...] = ()
    """In the order of their source."""
    margins: tuple[Callable[[Evidence], Finding], ...] = ()
    """The claims of which a margin in points is a part: they are about metrics that have points."""

    @abstractmethod
    def fits(self, axes: Axes) -> bool:
        """Whether this is how to show what the sweep varies."""

    @abstractmethod
    def measured(self, group: RecipeGroup) -> Table: ...

    def has_published(self, axes: Axes) -> bool:
        """Whether any of the sweep's cells was published."""
        return False

    def published(self, measured: Table, axes: Axes) -> Table:
        """The published numbers in the columns of `measured`, and under each column how far the two agree."""
        return measured

    def evidence(self, group: RecipeGroup) -> Evidence:
        """What rows are compared by and claims judged by."""
        return Evidence({}, (), (), (), {})

    def has_claims(self, axes: Axes) -> bool:
        """Whether the sweep has all that the claims are about."""
        return True

    def check(self, evidence: Evidence) -> tuple[Finding, ...]:
        """Every claim that compares something with its verdict; what is true by construction comes last."""
        has_points = evidence.metric.has_points
        findings = [claim(evidence) for claim in self.claims if has_points or claim not in self.margins]
        compared = [finding for finding in findings if finding.comparisons]
        return tuple(sorted(compared, key=lambda finding: finding.verdict == "by construction"))


def layout_of(axes: Axes, layouts: Sequence[Layout]) -> Layout:
    """The first that fits; the last one fits all."""
    return next(layout for layout in layouts if layout.fits(axes))


def sheets_of(layouts: Sequence[Layout], records: Records, axes: Axes, problem: str | None = None) -> list[Sheet]:
    """A sheet a recipe."""
    layout = layout_of(axes, layouts)
    return [_sheet(layout, group) for group in groups(records, axes, problem)]


def _sheet(layout: Layout, group: RecipeGroup) -> Sheet:
    axes, recipe = group.axes, group.recipe
    measured, evidence = layout.measured(group), layout.evidence(group)
    beside = group.metric == ACCURACY and layout.has_published(axes)  # every published number is an accuracy
    published = [layout.published(measured, axes)] if beside else []
    return Sheet(
        f"{axes.name}-{captions.recipe_name(recipe)}",
        axes.name,
        recipe.name,
        recipe.identity,
        (measured, *published, *smaller.tables(group)),
        layout.check(evidence) if layout.has_claims(axes) else (),
        comparisons.pairs(evidence),
        layout.pairing,
        group.every,
        group.metric,
    )


# What the tables of all layouts have in common


def measured_table(
    group: RecipeGroup,
    stub: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *sentences: str,
    seeds: Iterable[int] | None = None,
) -> Table:
    """The ranked table of what was measured; `seeds`: of the runs behind it, where these are not all of the group."""
    higher = group.metric.higher_is_better
    columns = [replace(column, higher_is_better=higher) if column.is_score else column for column in columns]
    table = Table("measured", f"{group.axes.title}, {group.recipe.name}", stub, tuple(columns), tuple(rows))
    entries = [row.entries[place] for row in rows for place in score_columns(table)]
    caption = (
        captions.statistic(group.tested["seed"] if seeds is None else seeds, group.expected, entries, group.metric),
        *sentences,
        captions.problem(group.recipe),
        captions.dense(group.every[~group.every["seed"].isin(group.for_choice)], group.metric),
        captions.provenance(group.every, group.problems),
    )
    return ranked(replace(table, caption=caption))


def published_table(
    measured: Table, title: str, rows: Sequence[Row], *caption: str, name: Callable[[str], str] = str
) -> Table:
    """Published rows in the columns of `measured`, ranked, with the agreement of the two as its footer.

    name: what the published table calls a row of `measured`.
    """
    table = ranked(Table("published", title, measured.stub, measured.columns, tuple(rows), caption=caption))
    return replace(table, footer=agreement(measured, table, name))
