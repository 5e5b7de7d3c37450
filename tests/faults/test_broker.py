"""The broker killed under load: both workers wait, go on by themselves, lose nothing and say little."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from farshore.agents.receipts import count_site
from farshore.local.broker import BrokerSettings, EmbeddedBroker
from farshore.local.eventhubs import FaultKind

from ..site import EventSource, Site, open_site, stored_in, until

pytestmark = pytest.mark.broker

SESSION_SECONDS = 3
REQUEST_SECONDS = 4
# Short enough that an outage of seconds is longer than all of them, and than a worker's patience with itself.
TIMEOUTS = {
    "liveness_seconds_max": "8",
    "lag_interval_seconds": "1",
    "uplink_connect_seconds_max": "4",
    "uplink_send_seconds_max": "4",
    "kafka_session_timeout_seconds": str(SESSION_SECONDS),
    "kafka_request_timeout_seconds": str(REQUEST_SECONDS),
}


@pytest.fixture(scope="module")
def own_broker() -> Iterator[EmbeddedBroker]:
    """A broker that only these tests use, and kill."""
    settings = BrokerSettings(properties={"group.min.session.timeout.ms": "1000"})
    with EmbeddedBroker(settings) as broker:
        yield broker


@pytest.fixture
async def own_site(
    own_broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path, package: Path
) -> AsyncIterator[Site]:
    """A site on it."""
    async with open_site(own_broker.bootstrap, topic_prefix, tmp_path, package, **TIMEOUTS) as opened:
        yield opened


async def outage(broker: EmbeddedBroker, seconds: float) -> None:
    """Kill the broker as a crash would, and start it again later."""
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(broker.start)


async def test_both_workers_survive_a_broker_killed_shortly_and_for_longer_than_every_timeout(
    own_site: Site, own_broker: EmbeddedBroker
) -> None:
    site = own_site
    scorer, bridge = await site.start("score"), await site.start("bridge")
    async with site.load(EventSource(seed=11)) as load:
        await until(lambda: load.published > 2_000, "load")
        for seconds in (2.0, 2.5 * REQUEST_SECONDS):
            before = load.published
            await outage(own_broker, seconds)
            await until(lambda before=before: load.published > before + 2_000, "load again")
    count = await site.settled()
    assert scorer.running
    assert bridge.running
    receipt = count.receipt()
    assert receipt.adds_up, receipt
    assert receipt.events == receipt.scored == load.published
    assert (receipt.unread, receipt.waiting) == (0, 0)
    assert receipt.anomalies == receipt.acknowledged > 0
    assert count.store_is_complete
    for worker in (scorer, bridge):
        assert "Traceback" not in worker.log
        assert len(worker.log.splitlines()) <= 20, worker.log
        assert max(Counter(worker.lines("WARNING", "ERROR")).values(), default=0) <= 2, worker.log
    # An outage is told when something was on its way; each is two lines, whatever its length.
    told = scorer.log.count("Kafka does not acknowledge results")
    assert told == scorer.log.count("Kafka acknowledges results again") <= 2
    await asyncio.gather(scorer.stop(), bridge.stop())


async def test_workers_stop_in_good_order_while_the_broker_is_away(
    own_site: Site, own_broker: EmbeddedBroker
) -> None:
    site = own_site
    workers = [await site.start("score"), await site.start("bridge")]
    events = EventSource(seed=12).take(3_000)
    await site.publish(events)
    await site.scored()
    await asyncio.to_thread(own_broker.kill)
    try:
        await asyncio.gather(*(worker.stop() for worker in workers))
        assert not any("Traceback" in worker.log for worker in workers)
    finally:
        await asyncio.to_thread(own_broker.start)
    await asyncio.gather(site.start("score"), site.start("bridge"))
    await site.settled()
    receipt = (await count_site(site.settings)).receipt()
    assert receipt.adds_up
    assert receipt.scored == len(events)


async def test_a_bridge_whose_uplink_is_away_outlives_a_broker_that_is_away_too(
    own_site: Site, own_broker: EmbeddedBroker
) -> None:
    """Both at once, longer than every time-out of Kafka; afterwards each anomaly leaves once."""
    site = own_site
    assert site.hub is not None
    await site.hub.fault(FaultKind.BLACK_HOLE)
    bridge = await site.start("bridge", kafka_max_poll_interval_seconds="3")
    await site.publish_anomalies(range(200))
    await until(lambda: site.hub.stats().connections_accepted > 0, "trying")
    await outage(own_broker, 2.5 * REQUEST_SECONDS)
    await site.publish_anomalies(range(200, 300))
    await site.hub.clear()
    await site.delivered()
    stored = [int(orjson.loads(body)["id"], 16) for _, body in stored_in(site.hub)]
    # The black hole had not stored anything, so nothing repeats either.
    assert sorted(stored) == list(range(300))
    assert bridge.running
    assert "Traceback" not in bridge.log
    assert max(Counter(bridge.lines("WARNING", "ERROR")).values(), default=0) <= 2, bridge.log
    await bridge.stop()
