"""The results of a small poll leave before the next fetch is asked for; after a large one that overlaps."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from farshore.agents.scorer import make_scorer
from farshore.streams.packages.loader import load_package
from farshore.streams.transport.connection import MendedConnection

from ..site import EventSource, Site

pytestmark = pytest.mark.broker

WATCHED = ("FetchRequest", "ProduceRequest")
EVENTS = 12
EVENTS_MIN = 8
"""A fetch that ran out just before an event, and was asked for anew, looks like one that came too early."""


@pytest.mark.parametrize(
    ("padding", "order"),
    [
        pytest.param(b"", ["ProduceRequest", "FetchRequest"], id="small"),
        pytest.param(b" " * 80_000, ["FetchRequest", "ProduceRequest"], id="few-rows-but-large"),
    ],
)
async def test_results_of_a_small_poll_go_before_the_next_fetch(
    site: Site, monkeypatch: pytest.MonkeyPatch, padding: bytes, order: list[str]
) -> None:
    sent: list[str] = []
    send = MendedConnection.send
    worker = site.settings.scorer_group

    def noted(self: MendedConnection, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        if self._client_id == worker and type(request).__name__ in WATCHED:
            sent.append(type(request).__name__)
        return send(self, request, expect_response)

    monkeypatch.setattr(MendedConnection, "send", noted)
    app = make_scorer(site.settings, load_package(site.package))
    await app.start()
    try:
        await site.publish(EventSource(seed=7).take(1))
        await site.scored()
        in_order = 0
        for key, value in EventSource(seed=8).take(EVENTS):
            sent.clear()
            await site.publish([(key, value + padding)])
            await site.scored()
            assert "ProduceRequest" in sent
            in_order += sent[:2] == order
    finally:
        await app.stop()
    assert in_order >= EVENTS_MIN
