"""Discovering neural wirings (Wortsman, Farhadi & Rastegari, NeurIPS 2019)."""

from __future__ import annotations

from benchmark.methods.declarations import DECAY, Declaration
from benchmark.methods.scratch import Transformed
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context


class DNW(Transformed):
    """Every forward pass uses the (1 - S) n weights of the largest |w| in the whole network.

    The gradient goes straight through to all weights: a masked weight moves as if it had been used. Weight decay acts
    on all of them.

    Where all weights of a unit are masked, batch norm has no variance to divide by and passes on a gradient some
    hundred times as large. The weights of one layer can then outgrow all others, which the global threshold masks in
    turn: such a run ends as "collapsed". The same can happen to DPF, which trains through masks as well.
    """

    declaration = Declaration("benchmark.methods.dnw:DNW", defaults={"decay": 1.0}, accepted=DECAY)

    def __init__(self, context: Context):
        super().__init__(context)
        self.bracket = Bracket()

    def transform(self) -> None:
        self.masks.select(self.target, self.trained, self.bracket)
        self.masks.apply_()
