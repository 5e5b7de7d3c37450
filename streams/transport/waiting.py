"""What waits in an agent's stream, taken together: a batch costs something, however few records it has."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import faust

from .app import batch_of, message_of

__all__ = ["all_that_waits"]


async def all_that_waits(stream: faust.StreamT, *, rows_max: int) -> AsyncIterator[list[faust.Event]]:
    """The events of batches in their order, as many as are there at once; not acknowledged.

    Nothing is waited for. Batches are taken together while they hold at most `rows_max` records, so that a
    larger one comes alone; between two lists the loop has its turn, for the reader and its heartbeats.
    """
    source = stream.noack()
    async for first in source.events():
        events: list[faust.Event] = []
        rows = 0
        for event in _with_those_behind(first, source):
            if events and rows + len(batch_of(event)) > rows_max:
                yield events
                events, rows = [], 0
                await asyncio.sleep(0)
            events.append(event)
            rows += len(batch_of(event))
            if rows >= rows_max:
                yield events
                events, rows = [], 0
                await asyncio.sleep(0)
        if events:
            yield events


def _with_those_behind(first: faust.Event, source: faust.StreamT) -> Iterator[faust.Event]:
    """The event that the stream gave, then what is in its queue.

    The stream gives one event in each turn of the loop. What it does with it is done here too: one of an
    earlier assignment is acknowledged unseen, the others are noted as being worked on. Its sensors are not
    told; of batches they would count the wrong thing. While the flow is suspended nothing more is taken.
    """
    yield first
    app, queue = source.app, source.channel.queue
    while app.flow_control.is_active() and not queue.empty():
        event = queue.get_nowait()
        message = message_of(event)
        if message.generation_id != app.consumer_generation_id:
            event.ack()
            continue
        message.tracked = True
        app.consumer.unacked.add(message)
        yield event
