"""Liveness that tells the truth: a worker that is stuck ends itself, one that has reason to wait does not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from farshore.local.eventhubs import FaultKind

from ..site import EventSource, Site, Worker, until

pytestmark = pytest.mark.broker

LIMIT_SECONDS = 6.0
# Every bound that the limit must be above is as short as it may be.
SHORT = {
    "liveness_seconds_max": str(LIMIT_SECONDS),
    "lag_interval_seconds": "1",
    "kafka_session_timeout_seconds": "6",
    "uplink_connect_seconds_max": "3",
    "uplink_send_seconds_max": "3",
}
STUCK_WORKER = str(Path(__file__).with_name("stuck_worker.py"))


def launch_stuck(site: Site, how: str) -> Worker:
    environment = site.environment(**SHORT, scorer_group=f"{site.prefix}{how}")
    worker = Worker([how], environment, site.folder / f"{how}.log", program=[STUCK_WORKER])
    site.workers.append(worker)
    return worker


async def test_a_worker_that_is_stuck_ends_itself_with_one_line_and_the_code_of_a_failure(
    site: Site,
) -> None:
    """The group sees a live member all the while: it polls and sends heartbeats."""
    reasons = {
        "waits": "records in hand",
        "blocks": "the event loop is held",
        "reads-nothing": "40 records unread, and nothing",
    }
    workers = {how: launch_stuck(site, how) for how in reasons}
    await asyncio.gather(*(worker.working() for worker in workers.values()))
    assert all(worker.page("/healthz")[0] == 200 for worker in workers.values())
    await site.publish(EventSource(seed=71).take(40))
    assert await asyncio.gather(*(worker.ended() for worker in workers.values())) == [1, 1, 1]
    for how, worker in workers.items():
        (line,) = worker.lines("ERROR")
        assert "stopping, to be started again: " in line
        assert reasons[how] in line
        assert "Traceback" not in worker.log
        committed = await site.committed(site.prefix + how, site.settings.topic_events)
        assert sum(committed.values()) == 0


async def abort_events(site: Site) -> None:
    async with site.producer(transactional_id=site.prefix + "writer") as producer:
        await producer.begin_transaction()
        for key, value in EventSource(seed=72).take(8):
            await producer.send_and_wait(site.settings.topic_events, value, key=key)
        await producer.abort_transaction()


async def test_an_idle_worker_one_behind_an_aborted_transaction_and_an_offline_bridge_stay_alive(
    site: Site,
) -> None:
    assert site.hub is not None
    await site.hub.fault(FaultKind.REFUSE)
    scorer, bridge = await asyncio.gather(site.start("score", **SHORT), site.start("bridge", **SHORT))
    await site.publish(EventSource(seed=73, anomaly_share=0.2).take(200))
    await site.scored()
    await abort_events(site)
    await until(lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= 1, "offline")
    began = time.monotonic()
    reasons = set()
    while time.monotonic() - began < LIMIT_SECONDS + 3:
        for worker in (scorer, bridge):
            assert worker.running, worker.log
            status, body = worker.page("/healthz")
            assert status == 200, body
            assert worker.page("/readyz")[0] == 200
            reasons.add(body["why"].split(",")[0])
        await asyncio.sleep(0.5)
    assert {"nothing waits", "uplink offline"} <= reasons
    assert bridge.metric("farshore_anomalies_waiting") > 0
    assert bridge.metric("farshore_deliveries_total") == 0
    await site.hub.clear()
    await site.delivered()
    await asyncio.gather(scorer.stop(), bridge.stop())
    assert scorer.lines("ERROR") + bridge.lines("ERROR") == []
