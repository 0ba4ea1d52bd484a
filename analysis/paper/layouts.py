"""The layouts of the paper's sweeps; sweeps of your own are laid out by what they vary, not by name."""

from analysis.paper.table1 import Table1
from analysis.paper.table2 import Table2
from analysis.paper.variants import Variants

LAYOUTS = (Table1(), Table2(), Variants())
"""The first that fits counts: the general one is the last."""
