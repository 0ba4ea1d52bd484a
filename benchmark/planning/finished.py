"""What has to be said of the finished cells of a sweep before it goes on. Reads the record of each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.planning.plan import starts
from benchmark.results.outside import sources
from benchmark.results.provenance import code_hash
from benchmark.results.store import UNREADABLE, Store


class Origin(NamedTuple):
    """Where a record comes from: fields of it and of its provenance.

    Args:
        code: hash of the suite's code.
        data: fingerprint of the data.
        outside: hashes of the user's own code, by module.
        start: the record's `parent`: the dense run that it began with.
        weights: hash of the weights at the end.
    """

    code: str | None
    data: str | None
    outside: Mapping[str, str]
    start: Mapping[str, Any] | None
    weights: str | None


class FinishedCells:
    """The finished ones among `cells` and the dense runs that these start from."""

    def __init__(self, cells: Sequence[Cell], store: Store):
        self.cells, self.store = cells, store
        self.origins: dict[str, Origin] = {}
        """By id, of the records that can be used."""
        self.damaged: dict[str, str] = {}
        """By id, why a record cannot be."""
        present = store.ids()
        self._present = [(cell, name) for cell in cells if (name := cell.id) in present] if present else []
        dense = [start.id for start in starts(cells)] if present else []
        named = dict.fromkeys([*(name for _, name in self._present), *dense])
        for name, record, reason in store.examine(name for name in named if name in present):
            if record is None:
                self.damaged[name] = reason
                continue
            of = record["provenance"]
            self.origins[name] = Origin(
                of.get("code"),
                of.get("data"),
                of.get("outside") or {},
                record.get("parent"),
                record.get("weights_sha256"),
            )

    def refuse_damaged(self, repair: bool) -> list[str]:
        """Check the records that the sweep would count as done, and the weights that it would start from.

        Raises UserError for the first that cannot be used; with `repair`, sets them aside, so that their cells run
        again, and returns a line for each.
        """
        lines = []
        for name, reason in self.damaged.items():
            path = self.store.record_path(name)
            if reason.startswith(UNREADABLE):
                raise UserError(f"{path} {reason}")
            if not repair:
                raise UserError(f"{path} {reason}; --repair sets it aside and trains the cell again")
            lines.append(f"{path} {reason}; it is now {self.store.set_aside(path)}")
        left = [cell for cell in self.cells if cell.id not in self.origins] if self.origins else []
        for name in (start.id for start in starts(left)):
            record = self.store.read(name) if name in self.origins else None
            problem = None if record is None else self.store.weights_problem(record)
            if problem is not None:
                if not repair:
                    raise UserError(f"{problem}; --repair trains the dense run again")
                lines.append(f"{problem}; its record is now {self.store.set_aside(self.store.record_path(name))}")
                del self.origins[name]
        return lines

    def edited(self) -> list[str]:
        """A line for each module from outside that was edited after it trained some of the cells or dense runs."""
        counts: Counter[str] = Counter()
        dense = [start for start in starts(self.cells) if start.id in self.origins]
        for cell, then in [*self._finished(), *((start, self.origins[start.id]) for start in dense)]:
            now = sources(cell)
            counts.update(name for name in now if then.outside.get(name, now[name]) != now[name])
        return [
            f"{name}.py changed since {count} of these cells and dense runs were trained; they count as done (to train "
            "them again, give another --results folder)"
            for name, count in sorted(counts.items())
        ]

    def mixtures(self) -> list[str]:
        """A line for everything that should be one and the same for all finished cells of a sweep, and is not."""
        finished = list(self._finished())
        codes, data = (Counter(getattr(of, name) for _, of in finished) for name in ("code", "data"))
        lines = []
        if others := codes.total() - codes[code_hash()]:
            lines.append(
                f"{others} of {codes.total()} finished cells were trained by other code than this; they count as done "
                "(to train them again, give another --results folder)"
            )
        if len(data) > 1:
            data_counts = ", ".join(f"{fingerprint}: {count} cells" for fingerprint, count in data.most_common())
            lines.append(f"the finished cells were trained on different data (by fingerprint, {data_counts})")
        if strangers := [cell.id for cell, of in finished if self._is_stranger(of)]:
            lines.append(
                f"{len(strangers)} of {codes.total()} finished cells started from other dense weights than those that "
                f"are kept now, such as {strangers[0]}"
            )
        if second := self.store.second_results():
            lines.append(
                f"{len(second)} cells gave another result when they were trained again, see {second[0].parent}"
            )
        if unreadable := self.store.unreadable():
            where = unreadable[0].parent
            lines.append(f"{len(unreadable)} records that nothing could read were set aside, see {where}")
        return lines

    def _finished(self) -> Iterable[tuple[Cell, Origin]]:
        return ((cell, self.origins[name]) for cell, name in self._present if name in self.origins)

    def _is_stranger(self, of: Origin) -> bool:
        """Whether a cell started from dense weights that are no longer there."""
        if of.start is None:
            return False
        dense = self.origins.get(of.start["id"])
        return dense is not None and dense.weights not in (None, of.start["weights_sha256"])
