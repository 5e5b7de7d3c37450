"""What tests of the ways to a hub share: an access by its settings, one event sent by it, certificates."""

from __future__ import annotations

import ssl
from typing import Any

import trustme

from farshore.agents.hub_access import HubAccess, hub_access
from farshore.agents.hub_event import EventEncoder
from farshore.agents.settings import Settings
from farshore.agents.uplink import EventHubUplink, UplinkLimits

LIMITS = UplinkLimits(connect_seconds_max=8.0, send_seconds_max=6.0)
SECRET = "bm90LWEtcmVhbC1rZXk="
CONNECTION = f"Endpoint=sb://localhost;SharedAccessKeyName=k;SharedAccessKey={SECRET};EntityPath=anomalies"


def access_of(**values: Any) -> HubAccess:
    return hub_access(Settings(**values))


async def send(access: HubAccess, body: bytes = b"{}") -> None:
    uplink = EventHubUplink(access, LIMITS)
    try:
        await send_on(uplink, body)
    finally:
        await uplink.close()


async def send_on(uplink: EventHubUplink, body: bytes) -> None:
    await uplink.connect(0)
    batch = uplink.new_batch(0)
    assert batch.append(EventEncoder("/farshore/north").encode(b"0" * 32, body))
    await uplink.send(batch)


def certificate(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context
