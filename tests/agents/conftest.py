"""Stand-ins for Event Hubs, one a test, without TLS and with an authority of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from farshore.local.eventhubs import EventHubsStandIn

from .hub_clients import certificate


@pytest.fixture
async def hub() -> AsyncIterator[EventHubsStandIn]:
    async with EventHubsStandIn(hub="anomalies", partitions=2) as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
async def secure_hub(authority: trustme.CA) -> AsyncIterator[EventHubsStandIn]:
    async with EventHubsStandIn(hub="anomalies", partitions=2, tls=certificate(authority)) as running:
        yield running
