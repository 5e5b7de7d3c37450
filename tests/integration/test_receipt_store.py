"""The receipt's view of the store: what a tombstone took away is no anomaly of the store any more."""

from __future__ import annotations

import pytest

from farshore.agents.receipts import count_site

from ..site import Site
from ..site_events import anomaly_record

pytestmark = pytest.mark.broker


async def test_a_tombstone_takes_its_anomaly_out_of_the_count(site: Site) -> None:
    await site.publish_anomalies(range(4))
    gone = anomaly_record(2)["id"]
    async with site.producer() as producer:
        await producer.send_and_wait(site.settings.topic_anomalies, None, key=gone.encode(), partition=2)
    count = await count_site(site.settings)
    assert set(count.anomalies) == {anomaly_record(number)["id"] for number in (0, 1, 3)}
    assert count.anomaly_sources.keys() == count.anomalies.keys()
    assert count.receipt().anomalies == count.receipt().waiting == 3
