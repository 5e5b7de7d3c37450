"""The results of a small poll leave before the next fetch is asked for."""

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


async def test_results_of_a_small_poll_go_before_the_next_fetch(
    site: Site, monkeypatch: pytest.MonkeyPatch
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
        results_first = 0
        for event in EventSource(seed=8).take(EVENTS):
            sent.clear()
            await site.publish([event])
            await site.scored()
            assert "ProduceRequest" in sent
            results_first += sent[:2] == ["ProduceRequest", "FetchRequest"]
    finally:
        await app.stop()
    assert results_first >= EVENTS_MIN
