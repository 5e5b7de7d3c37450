"""A stand-in for Event Hubs, one a test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from farshore.local.eventhubs import EventHubsStandIn


@pytest.fixture
async def hub() -> AsyncIterator[EventHubsStandIn]:
    async with EventHubsStandIn(hub="anomalies", partitions=2) as running:
        yield running
