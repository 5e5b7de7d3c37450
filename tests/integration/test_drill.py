"""`farshore drill` and `farshore status` on a running site; a drill that dies leaves no cut behind."""

from __future__ import annotations

import asyncio
import json
import re
import time

import orjson
import pytest
from jsonschema import Draft202012Validator

from farshore.schemas.manifest import load_schema

from ..site import Site, anomaly_record, stored_in, until, values_of

pytestmark = pytest.mark.broker


async def test_a_drill_cuts_a_running_site_and_proves_that_nothing_was_lost(site: Site) -> None:
    assert site.hub is not None
    bridge = await site.start("bridge", lag_interval_seconds="0.5")
    await site.publish_anomalies(range(40))
    await site.delivered()
    drill = asyncio.create_task(site.run("drill", "--seconds", "8", "--json"))
    await until(lambda: bridge.metric("farshore_uplink_state") == 0, lambda: f"held; log:\n{bridge.log}")
    await site.publish_anomalies(range(40, 100), found_ms=time.time_ns() // 1_000_000)
    done = await drill
    assert done.returncode == 0, done.stderr + bridge.log
    result = json.loads(done.stdout)
    assert result["passed"] is True
    assert (result["left_while_cut"], result["damaged"]) == (0, 0)
    found = result["found_since_cut"]
    assert (found["anomalies"], found["acknowledged"]) == (60, 60)
    assert {int(orjson.loads(body)["id"], 16) for _, body in stored_in(site.hub)} == set(range(100))
    status = await site.run("status", "--json", "--metrics", metrics_of(bridge.log))
    told = json.loads(status.stdout)
    assert told["uplink"] == "online"
    lag = {entry["topic"]: entry for entry in told["lag"]}[site.settings.topic_anomalies]
    assert (lag["records"], lag["bytes"]) == (0, 0)
    assert told["store_bytes"] > 0
    assert "uplink offline: held by a drill" in bridge.log
    audit = values_of(await site.records(site.settings.topic_audit))
    audit = [value for value in audit if value["kind"] != "reading"]
    kinds = [value["kind"] for value in audit]
    assert [kind for kind in kinds if kind != "departed"] == ["hold", "held", "hold", "released", "receipt"]
    assert "departed" not in kinds[kinds.index("held") : kinds.index("released")]
    assert sum(value["count"] for value in audit[kinds.index("released") :] if "count" in value) == 60
    for value in audit:
        name = "hold" if value["kind"] in {"hold", "held", "released"} else value["kind"]
        Draft202012Validator(load_schema(f"audit-{name}")).validate(value)


def metrics_of(log: str) -> str:
    return f"http://127.0.0.1:{re.findall(r'metrics on port ([0-9]+)', log)[-1]}/metrics"


async def test_a_hold_whose_drill_has_died_ends_by_itself(site: Site) -> None:
    assert site.hub is not None
    bridge = await site.start("bridge")
    now_ms = time.time_ns() // 1_000_000
    word = {"kind": "hold", "site": "north", "id": "a" * 32, "time": now_ms, "seconds": 8}
    async with site.producer() as producer:
        await producer.send_and_wait(site.settings.topic_audit, orjson.dumps(word), key=b"north", partition=0)
    await until(lambda: "the uplink is held" in bridge.log, lambda: f"held; log:\n{bridge.log}")
    await site.publish_anomalies(range(8))
    await site.delivered()
    assert len(stored_in(site.hub)) == 8
    await until(lambda: "the uplink is let go" in bridge.log, "told")
    audit = values_of(await site.records(site.settings.topic_audit))
    left = [value["time"] for value in audit if value["kind"] == "departed"]
    assert min(left) >= now_ms + 8_000
    # Heard again by the next bridge, the word is over.
    await bridge.stop()
    bridge = await site.start("bridge")
    await site.publish_anomalies(range(8, 16))
    await site.delivered()
    assert "the uplink is held" not in bridge.log


async def test_a_sum_that_is_off_fails_a_drill_and_a_receipt(site: Site) -> None:
    """Somebody has written an outcome that is none: of that anomaly nobody can say what became of it."""
    await site.start("bridge", lag_interval_seconds="0.5")
    # Found within any stretch that begins now.
    await site.publish_anomalies(range(8), found_ms=time.time_ns() // 1_000_000 + 3_600_000)
    await site.delivered()
    key = anomaly_record(3)["id"]
    foreign = {"id": key, "outcome": "lost at sea"}
    async with site.producer() as producer:
        await producer.send_and_wait(
            site.settings.topic_deliveries, orjson.dumps(foreign), key=key.encode(), partition=3
        )
    drill, receipt = await asyncio.gather(
        site.run("drill", "--seconds", "1", "--json"), site.run("store", "receipt")
    )
    assert (drill.returncode, receipt.returncode) == (1, 1), drill.stderr + receipt.stderr
    result = json.loads(drill.stdout)
    assert result["passed"] is False
    assert result["damaged"] == 1
    found = result["found_since_cut"]
    assert (found["anomalies"], found["acknowledged"]) == (8, 7)
    assert "the sum is off by 1" in receipt.stderr
    told = [v for v in values_of(await site.records(site.settings.topic_audit)) if v["kind"] == "receipt"]
    assert [value["adds_up"] for value in told] == [False]


async def test_without_a_bridge_a_drill_fails_in_one_line_and_a_status_says_what_it_does_not_know(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farshore.agents.drill.ANSWER_SECONDS_MAX", 1.0)
    from farshore.agents.drill import run_drill
    from farshore.agents.errors import FarshoreError
    from farshore.streams.delivery.policy import Policy

    with pytest.raises(FarshoreError, match="is a bridge running"):
        await run_drill(site.settings, Policy(), cut_seconds=1, drain_seconds_max=1, say=lambda _text: None)
    status = await site.run("status", "--metrics", "http://127.0.0.1:9/metrics")
    assert status.returncode == 0, status.stderr
    assert "uplink    unknown: the bridge does not answer; no batch has left" in status.stdout
