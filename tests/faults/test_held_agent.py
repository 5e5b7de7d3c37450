"""An agent held for longer than the group's poll interval: afterwards it is given records again.

In stock Faust it never is: aiokafka leaves the group, and joins again only for a consumer that polls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import faust
import pytest

from farshore.agents.faust_app import WorkerApp, make_app
from farshore.streams.transport.app import batch_of, settle
from farshore.streams.transport.schema import BatchSchema

from ..site import EventSource, Site, until

pytestmark = pytest.mark.broker

INTERVAL_SECONDS = 2.0
HELD_SECONDS = 6.0
TURNS_MAX = 20


async def waits(seconds: float) -> None:
    """Held as by a dead uplink: the loop runs on."""
    await asyncio.sleep(seconds)


async def blocks(seconds: float) -> None:
    """Held as by a computation: the loop stands still, the reading thread does not."""
    time.sleep(seconds)


@asynccontextmanager
async def held_app(
    site: Site, hold: Callable[[float], object], offsets: list[tuple[int, int]]
) -> AsyncIterator[WorkerApp]:
    """An app whose agent is held once, on its first batch; it notes the offsets that it was given."""
    values = site.values | {"kafka_max_poll_interval_seconds": str(INTERVAL_SECONDS)}
    settings = type(site.settings)(**values)
    app = make_app(settings, group=settings.scorer_group, outputs=())
    held = False

    @app.agent(app.topic(settings.topic_events, schema=BatchSchema()), name="held")
    async def agent(stream: faust.StreamT) -> None:
        nonlocal held
        async for event in stream.noack().events():
            if not held:
                held = True
                fetcher = app.consumer._thread._ensure_consumer()._fetcher
                for _ in range(TURNS_MAX):  # after a small poll the next fetch is asked for a little later
                    if fetcher._in_flight:
                        break
                    await asyncio.sleep(0)
                assert fetcher._in_flight, "the next fetch is asked for"
                await hold(HELD_SECONDS)
            batch = batch_of(event)
            offsets.extend((batch.partition, offset) for offset in batch.offsets)
            settle(event)

    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@pytest.mark.parametrize("hold", [waits, blocks])
async def test_an_agent_held_longer_than_the_poll_interval_is_given_records_again(
    site: Site, hold: Callable[[float], object]
) -> None:
    source = EventSource(seed=21)
    offsets: list[tuple[int, int]] = []
    async with held_app(site, hold, offsets) as app:
        await site.publish(source.take(50))
        await until(lambda: len(set(offsets)) == 50, "the first events")
        await site.publish(source.take(50))
        await site.scored()
        assert app.fatal is None
    assert len(set(offsets)) == 100
