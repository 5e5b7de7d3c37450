"""What the receipt reads: tombstones take anomalies away, and what others wrote is told and in no sum."""

from __future__ import annotations

import orjson
import pytest

from farshore.agents.receipts import count_site

from ..site import Site
from ..site_events import anomaly_record

pytestmark = pytest.mark.broker

SCORED = {"device": "pump", "time": 1, "score": 0.5, "anomaly": True, "model": "sample@1"}


async def test_a_tombstone_takes_its_anomaly_out_of_the_count(site: Site) -> None:
    await site.publish_anomalies(range(4))
    gone = anomaly_record(2)["id"]
    async with site.producer() as producer:
        await producer.send_and_wait(site.settings.topic_anomalies, None, key=gone.encode(), partition=2)
    count = await count_site(site.settings)
    assert set(count.anomalies) == {anomaly_record(number)["id"] for number in (0, 1, 3)}
    assert count.anomaly_sources.keys() == count.anomalies.keys()
    assert count.receipt().anomalies == count.receipt().waiting == 3


async def test_records_that_others_wrote_are_named_and_leave_the_sums_as_they_are(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    settings = site.settings
    await site.publish([(b"pump", b"{"), (b"pump", b"[]")], partition=1)
    of_another_topic = {**SCORED, "source": {"topic": "other", "partition": 1, "offset": 0}}
    headers = [("reason", b"not-json"), ("topic", b"other"), ("partition", b"1"), ("offset", b"1")]
    async with site.producer() as producer:
        for topic, value in (
            (settings.topic_scored, b"hello"),
            (settings.topic_scored, b"[1]"),
            (settings.topic_scored, None),
            (settings.topic_scored, b'{"anomaly":true,"source":7}'),
            (settings.topic_scored, orjson.dumps(of_another_topic)),
            (settings.topic_dead_letters, b"without headers"),
            (settings.topic_anomalies, b"{}"),
            (settings.topic_deliveries, b'{"outcome":"lost at sea"}'),
            (settings.topic_audit, b"hello"),
        ):
            partition = 0 if topic == settings.topic_audit else 1
            await producer.send_and_wait(topic, value, key=b"key", partition=partition)
        await producer.send_and_wait(settings.topic_dead_letters, b"{", headers=headers, partition=1)
    count = await count_site(settings)
    assert (count.scored, count.dead_letters, count.anomalies, count.outcomes) == (set(), {}, {}, {})
    receipt = count.receipt()
    assert (receipt.events, receipt.unread) == (2, 2)
    assert receipt.adds_up
    told = {topic: number for topic, (number, _) in count.foreign.items()}
    assert told == {
        settings.topic_scored: 4,
        settings.topic_dead_letters: 1,
        settings.topic_anomalies: 1,
        settings.topic_deliveries: 1,
    }
    assert f"4, first {settings.topic_scored}/1 offset 0" in "\n".join(caplog.messages)
