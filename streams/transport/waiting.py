"""What waits in an agent's stream, taken together: a batch costs something, however few records it has."""

import asyncio
from collections.abc import AsyncIterator

import faust

from .app import batch_of

__all__ = ["all_that_waits"]


async def all_that_waits(stream: faust.StreamT, *, rows_max: int) -> AsyncIterator[list[faust.Event]]:
    """The events of batches in their order, as many as are there at once; not acknowledged.

    Nothing is waited for. Batches are taken together while they hold at most `rows_max` records, so that a
    larger one comes alone; between two lists the loop has its turn, for the reader and its heartbeats.
    """
    events: list[faust.Event] = []
    rows = 0
    source = stream.noack()
    async for event in source.events():
        if events and rows + len(batch_of(event)) > rows_max:
            yield events
            events, rows = [], 0
            await asyncio.sleep(0)
        events.append(event)
        rows += len(batch_of(event))
        if rows >= rows_max or source.channel.queue.empty():
            yield events
            events, rows = [], 0
