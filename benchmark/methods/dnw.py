"""Discovering neural wirings (Wortsman, Farhadi & Rastegari, NeurIPS 2019)."""

from __future__ import annotations

from benchmark.methods.declarations import DECAY, Declaration
from benchmark.methods.scratch import Transformed
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context


class DNW(Transformed):
    """Every forward pass uses exactly the (1 - S) n weights of largest |w|, one threshold for the whole network.

    The gradient goes straight through to all weights: a weight that is left out moves as if it had been in. Weight
    decay acts on all of them.

    Where every weight of a unit is left out, batch norm has no variance to divide by and passes on a gradient some
    hundred times as large. The weights of a layer can then outgrow all others and take their places under the one
    threshold: such a run ends as "collapsed". DPF, which trains through masks as well, knows the same end.
    """

    declaration = Declaration(
        "benchmark.methods.dnw:DNW",
        from_dense=False,
        retrains=False,
        defaults={"decay": 1.0},
        accepted=DECAY,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.bracket = Bracket()

    def transform(self) -> None:
        self.masks.select(self.target, self.trained, self.bracket)
        self.masks.apply_()
