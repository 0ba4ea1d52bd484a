"""Weights & Biases beside a pool of workers: listens to its events, the same for every launcher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmark.launch.events import Epoch, Event, Finished
from benchmark.results.store import Store
from benchmark.tracking.publisher import Publisher
from benchmark.tracking.runs import Settings, without_marker


class Publishing:
    """Publishes the cells of one sweep, as runs of the group SWEEP/PROBLEM."""

    def __init__(self, settings: Settings, sweep: str, problem: str):
        self._store = Store(settings.store)
        self._publisher = Publisher(settings)
        self._group = f"{sweep}/{problem}"

    def catch_up(self, cell_ids: Iterable[str]) -> None:
        """Publish those that an earlier run of the sweep, or one without W&B, trained and did not publish."""
        if self._publisher.mode != "off":
            for cell_id in dict.fromkeys(without_marker(self._store, cell_ids)):
                if self._store.has(cell_id):
                    self._publisher.add(cell_id, self._group)

    def listen(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass the events of a pool on, and publish what they tell of."""
        for event in events:
            if isinstance(event, Epoch):
                self._publisher.follow(event.cell, self._group, event.values)
            elif isinstance(event, Finished):
                self._publisher.add(event.cell.id, self._group)
            yield event

    def close(self, seconds: float) -> str:
        """Wait for W&B so long at most; a line about what became of the runs, or ""."""
        return self._publisher.close(seconds).message
