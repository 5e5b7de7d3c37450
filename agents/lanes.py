"""One lane for each partition: its batches one after the other, lanes side by side.

Guarantees: batches of a partition are worked on in the order in which they came; what a rebalance has taken
away is dropped when its turn comes, and read again by the next owner; an error ends the worker. What waits in
the lanes is bounded by the transport, which hands out no more while too much is not settled.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import faust

from ..streams.transport.app import batch_of
from .faust_app import WorkerApp

__all__ = ["Lanes"]


class Lanes:
    """`put` returns at once; `work` is done on each batch in its lane's turn."""

    def __init__(self, app: WorkerApp, work: Callable[[faust.Event], Awaitable[None]]) -> None:
        self._app = app
        self._work = work
        self._waiting: dict[int, deque[faust.Event]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def put(self, event: faust.Event) -> None:
        """Queue a batch behind those of its partition."""
        partition = batch_of(event).partition
        self._waiting.setdefault(partition, deque()).append(event)
        if partition not in self._tasks:
            task = asyncio.create_task(self._run(partition), name=f"lane {partition}")
            self._tasks[partition] = task

    def is_current(self, event: faust.Event) -> bool:
        """Whether the batch still belongs to this worker."""
        return bool(event.message.generation_id == self._app.consumer_generation_id)

    async def close(self) -> None:
        """Stop; what is not settled is not committed either and will be read again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, partition: int) -> None:
        waiting = self._waiting[partition]
        try:
            with self._app.stopping_on_error():
                while waiting:
                    event = waiting.popleft()
                    if self.is_current(event):
                        await self._work(event)
        except Exception:  # noqa: BLE001, S110  the worker is ending, and has said why
            pass
        finally:
            self._tasks.pop(partition, None)
