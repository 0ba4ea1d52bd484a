"""Which table a sweep gets: by what it varies, not by its name, so that sweeps of your own are laid out, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis import captions, comparisons
from analysis.claims import Evidence, Finding
from analysis.groups import Group, groups
from analysis.paper import claims_table1, claims_table2, smaller, table1, table2, table_variants
from analysis.records import Axes, Records
from analysis.render.sheet import Sheet
from analysis.tables import Table


@dataclass(frozen=True)
class Layout:
    fits: Callable[[Axes], bool]
    measured: Callable[[Group], Table]
    published: Callable[[Table, Axes], Table]
    has_published: Callable[[Axes], bool]
    evidence: Callable[[Group], Evidence]
    has_claims: Callable[[Axes], bool]
    check: Callable[[Evidence], tuple[Finding, ...]]
    pairing: str = "one seed, one dense network"
    """What runs of one seed share."""


LAYOUTS = (
    Layout(
        table1.fits,
        table1.measured,
        table1.published,
        table1.has_published,
        table1.evidence,
        table1.has_claims,
        claims_table1.check,
    ),
    Layout(
        table2.fits,
        table2.measured,
        table2.published,
        table2.has_published,
        table2.evidence,
        table2.has_claims,
        claims_table2.check,
        "one seed, the same initial weights and data order",
    ),
    Layout(
        table_variants.fits,
        table_variants.measured,
        lambda ours, axes: ours,
        lambda axes: False,
        table_variants.evidence,
        table_variants.has_claims,
        table_variants.check,
    ),
)
"""The first that fits counts: the general one is the last."""


def layout_of(axes: Axes) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.fits(axes)), None)


def sheets_of(records: Records, axes: Axes, problem: str | None = None) -> list[Sheet]:
    """A sheet a recipe; none where there is no table for what the sweep varies."""
    layout = layout_of(axes)
    return [_sheet(layout, group) for group in groups(records, axes, problem)] if layout else []


def _sheet(layout: Layout, group: Group) -> Sheet:
    axes, recipe = group.axes, group.recipe
    tables = [layout.measured(group)]
    if layout.has_published(axes):
        tables.append(layout.published(tables[0], axes))
    tables += smaller.tables(group)
    evidence = layout.evidence(group)
    return Sheet(
        f"{axes.name}-{recipe.name}" + ("" if captions.is_plain(recipe) else f"-{recipe.identity}"),
        axes.name,
        recipe.name,
        recipe.identity,
        tuple(tables),
        layout.check(evidence) if layout.has_claims(axes) else (),
        comparisons.pairs(evidence),
        layout.pairing,
        group.every,
    )
