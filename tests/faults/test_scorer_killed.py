"""Scorers killed, held and doubled under load: every event has an outcome, every anomaly one live key."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter

import pytest

from farshore.agents.receipts import SiteCount, count_site

from ..site import EventSource, Load, Site, until, values_of

pytestmark = pytest.mark.broker

# The shortest session the broker takes: the group waits as long for a member that was killed.
SHORT_SESSION = {"kafka_session_timeout_seconds": "6"}


async def scored_count(site: Site) -> SiteCount:
    """Wait for the scorer, then count; the bridge takes no part."""
    await site.scored()
    return await count_site(site.settings)


async def check(site: Site, load: Load) -> SiteCount:
    """Every event published has its outcome and every anomaly is in the store once."""
    count = await scored_count(site)
    receipt = count.receipt()
    assert receipt.events_add_up, receipt
    assert receipt.events == receipt.scored == load.published
    assert receipt.unread == 0
    assert count.store_is_complete
    anomalies = await site.records(site.settings.topic_anomalies)
    assert len({record.key for record in anomalies}) == len(count.scored_anomalies) > 0
    return count


async def test_a_scorer_killed_again_and_again_under_load_loses_and_forgets_nothing(
    site: Site, seed: int
) -> None:
    choice = random.Random(seed)
    async with site.load(EventSource(seed=seed), events_per_second=3_000) as load:
        for _ in range(2):
            scorer = await site.start("score", **SHORT_SESSION)
            await asyncio.sleep(choice.uniform(0.0, 3.0))
            scorer.kill()
        await site.start("score", **SHORT_SESSION)
    await check(site, load)


async def test_a_scorer_held_longer_than_every_limit_of_its_group_goes_on_by_itself(site: Site) -> None:
    """aiokafka leaves a group after its poll interval and then waits for a poll before it joins again."""
    scorer = await site.start("score", **SHORT_SESSION, kafka_max_poll_interval_seconds="3")
    async with site.load(EventSource(seed=5)) as load:
        await until(lambda: load.published > 1_000, "load")
        scorer.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(9)
        scorer.process.send_signal(signal.SIGCONT)
        held_at = load.published
        await until(lambda: load.published > held_at + 1_000, "load after the hold")
    await check(site, load)
    assert scorer.running
    assert scorer.lines("ERROR") == []


async def test_a_second_scorer_may_come_and_go_under_load(site: Site) -> None:
    first = await site.start("score")
    async with site.load(EventSource(seed=6)) as load:
        await until(lambda: load.published > 1_000, "load")
        second = await site.start("score")
        await until(lambda: second.metric("farshore_events_total", outcome="scored") > 1_000, "shared")
        shared_at = first.metric("farshore_events_total", outcome="scored")
        await until(
            lambda: first.metric("farshore_events_total", outcome="scored") > shared_at + 1_000,
            "both at work",
        )
        await second.stop()
        alone_at = load.published
        await until(lambda: load.published > alone_at + 1_000, "load after the second is gone")
    count = await check(site, load)
    # What was in hand was settled and committed before letting go, so that little or nothing is repeated.
    assert count.scored_records - load.published < load.published / 5
    await first.stop()


async def test_a_scorer_that_is_started_again_goes_on_where_it_was(site: Site) -> None:
    source = EventSource(seed=8)
    events = source.take(2_000)
    first = await site.start("score")
    await site.publish(events)
    await scored_count(site)
    await first.stop()
    more = source.take(1_000)
    await site.publish(more)
    await site.start("score")
    count = await scored_count(site)
    assert count.receipt().events_add_up
    assert count.scored_records == len(count.scored) == len(events) + len(more)
    scored = values_of(await site.records(site.settings.topic_scored))
    assert Counter(value["time"] for value in scored).most_common(1)[0][1] == 1
