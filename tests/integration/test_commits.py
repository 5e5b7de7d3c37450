"""Commits follow acknowledgements: what Kafka has not taken is never committed."""

from __future__ import annotations

import pytest

from farshore.agents.receipts import count_site

from ..site import EventSource, Site, until

pytestmark = pytest.mark.broker


async def test_nothing_is_committed_while_results_are_not_acknowledged(site: Site) -> None:
    # aiokafka looks for the leader of a vanished topic for as long as one request may take.
    limits = {"kafka_request_timeout_seconds": "8", "kafka_session_timeout_seconds": "6"}
    scorer = await site.start("score", **limits)
    # A topic taken away under the worker's feet: anomalies are acknowledged, scored records are not.
    async with site.admin() as admin:
        await admin.delete_topics([site.settings.topic_scored])
    events = EventSource(seed=51, anomaly_share=0.2).take(400)
    await site.publish(events)
    await until(lambda: "Kafka does not acknowledge results" in scorer.log, "told")
    assert len(await site.records(site.settings.topic_anomalies)) > 0
    committed = await site.committed(site.settings.scorer_group, site.settings.topic_events)
    assert sum(committed.values()) == 0
    await site.make_topics()
    await site.scored()
    count = await count_site(site.settings)
    assert count.scored_records == len(count.scored) == len(events)
    assert count.store_is_complete
    assert scorer.log.count("Kafka does not acknowledge results") == 1
    assert scorer.log.count("Kafka acknowledges results again") == 1
    await scorer.stop()
