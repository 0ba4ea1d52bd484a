"""What every format draws."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from analysis.claims import Finding
from analysis.comparisons import Pair
from analysis.tables import Table
from benchmark.metric import ACCURACY, Metric


@dataclass(frozen=True)
class Sheet:
    """The tables of one sweep on one recipe, and what they say about published claims.

    Args:
        slug: stem of its files, such as table1-digits.
        sweep, problem, recipe: what the records are of; the recipe by its identity.
        tables: the measured one first.
        findings: the claims about it.
        pairs: the rows of the first table compared.
        pairing: what runs of one seed share, which makes them pairs.
        records: what the sheet was made of, for exports: columns as in analysis.frames.
        metric: what the networks of the recipe are measured by.
    """

    slug: str
    sweep: str
    problem: str
    recipe: str
    tables: tuple[Table, ...]
    findings: tuple[Finding, ...] = ()
    pairs: tuple[Pair, ...] = ()
    pairing: str = "one seed, one dense network"
    records: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    metric: Metric = ACCURACY
