"""Started before their broker: one line, then patience. At one that refuses: one line, and the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farshore.agents.receipts import count_site
from farshore.local.broker import BrokerSettings, EmbeddedBroker
from farshore.local.kafka_tools import run_kafka_tool
from farshore.local.ports import free_ports

from ..site import EventSource, Site, until

pytestmark = pytest.mark.broker

ACL_COMMAND = "org.apache.kafka.tools.AclCommand"


async def test_a_worker_waits_for_its_broker_with_one_line_and_then_works(
    topic_prefix: str, tmp_path: Path, package: Path
) -> None:
    (port,) = free_ports(1)
    site = Site(f"127.0.0.1:{port}", topic_prefix, tmp_path, package)
    broker = EmbeddedBroker(BrokerSettings(port=port))
    try:
        (own_port,) = free_ports(1)
        waiting, unneeded = site.launch("score", metrics_port=str(own_port)), site.launch("score")
        for worker in (waiting, unneeded):
            await until(lambda worker=worker: "no Kafka broker answers" in worker.log, "told")
        await unneeded.stop()
        await asyncio.sleep(2)  # more tries, none of which is news
        assert len(waiting.log.splitlines()) == 1
        # A restart would find no broker either.
        assert waiting.page("/healthz", own_port)[0] == 200
        status, body = waiting.page("/readyz", own_port)
        assert (status, body["ready"], body["missing"]) == (503, False, ["topics", "warm", "group"])
        assert "Kafka" in body["why"]
        await asyncio.to_thread(broker.start)
        await waiting.working()
        assert waiting.page("/readyz") == (200, {"ready": True, "why": "at work", "missing": []})
        await site.publish(EventSource(seed=41).take(500))
        await site.scored()
        assert (await count_site(site.settings)).receipt().scored == 500
        assert waiting.log.count("no Kafka broker answers") == 1
        assert waiting.log.count("Kafka answers after") == 1
        assert site.bootstrap in waiting.log
        # The first group of a fresh broker: that its coordinator has to be made is no news.
        assert "lag cannot be read" not in waiting.log
        assert "Traceback" not in waiting.log + unneeded.log
        await waiting.stop()
    finally:
        await asyncio.to_thread(site.end_workers)
        await asyncio.to_thread(broker.stop)


async def test_a_broker_that_refuses_ends_a_start_with_one_line(
    topic_prefix: str, tmp_path: Path, package: Path
) -> None:
    """Not taken for an absent broker and waited for: no waiting mends a missing right."""
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    properties = {"authorizer.class.name": authorizer, "allow.everyone.if.no.acl.found": "true"}
    with EmbeddedBroker(BrokerSettings(properties=properties)) as broker:
        site = Site(broker.bootstrap, topic_prefix, tmp_path, package)
        await site.make_topics()
        scored = site.settings.topic_scored
        # What the only rule of a topic does not allow is refused: here, to read its settings.
        rule = ["--add", "--allow-principal", "User:ANONYMOUS", "--operation", "Describe", "--topic", scored]
        arguments = ["--bootstrap-server", broker.bootstrap, *rule, "--force"]
        await asyncio.to_thread(run_kafka_tool, ACL_COMMAND, arguments, 60)
        for command in ("score", "check"):
            done = await site.run(command)
            assert done.returncode == 1
            (line,) = [line for line in done.stderr.splitlines() if repr(scored) in line]
            assert f"the settings of topic {scored!r} cannot be read" in line
            assert "Traceback" not in done.stderr
            assert "no Kafka broker answers" not in done.stderr
