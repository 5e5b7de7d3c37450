"""The compliance policy on the wire: every byte between the bridge and the service, in both directions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from farshore.schemas.manifest import load_schema
from farshore.schemas.policy import DEFAULT_POLICY

from ..site import Site, anomaly_record, stored_in, values_of
from ..site_recorder import recording

pytestmark = pytest.mark.broker

SECRET = "the secret of the site north"
POLICY = """
version = 1

[fields]
id = "leave"
device = "hash"
time = { round = 60000 }
score = { round = 0.5 }
severity = "leave"
"readings.flow" = { round = 1 }

[never]
devices = ["laboratory-*"]
"""

FORBIDDEN = ("pump", "laboratory", "pressure", "threshold", "contributions", "detected_at", "sample@1")
"""Parts of device names, names and members that may not leave under POLICY."""


def anomalies(count: int) -> list[dict[str, Any]]:
    return [
        anomaly_record(number)
        | {
            "device": f"laboratory-{number}" if number % 10 == 3 else f"pump-{number}",
            "score": 50.12345 + number,
            "readings": {"flow": 1234.56789 + number, "pressure": 98765.4321},
            "contributions": {"flow": 0.98765, "pressure": 0.01235},
        }
        for number in range(count)
    ]


async def publish(site: Site, records: list[dict[str, Any]]) -> None:
    async with site.producer(enable_idempotence=True) as producer:
        for number, record in enumerate(records):
            await producer.send_and_wait(
                site.settings.topic_anomalies,
                orjson.dumps(record),
                key=record["id"].encode(),
                partition=number % 4,
            )


def port_of(connection_string: str) -> int:
    found = re.search(r"sb://[^:/;]+:(\d+)", connection_string)
    assert found is not None
    return int(found[1])


async def test_bytes_on_the_wire_hold_nothing_that_the_policy_keeps(site: Site, tmp_path: Path) -> None:
    assert site.hub is not None
    assert site.connection_string is not None
    policy, secret = tmp_path / "policy.toml", tmp_path / "secret"
    policy.write_text(POLICY)
    secret.write_text(SECRET)
    records = anomalies(40)
    await publish(site, records)
    async with recording(port_of(site.connection_string)) as wire:
        redirected = site.connection_string.replace(f":{port_of(site.connection_string)}", f":{wire.port}", 1)
        more = {
            "eventhub_connection_string": redirected,
            "policy": str(policy),
            "policy_secret_file": str(secret),
        }
        bridge = await site.start("bridge", **more)
        await site.delivered()
        await bridge.stop()
    sent = bytes(wire.sent)
    left = [record for record in records if record["device"].startswith("pump")]
    # The recorder saw what left: each id once, and what became of the scores.
    assert all(sent.count(record["id"].encode()) >= 1 for record in left)
    assert b'"score":50.0' in sent
    for record in records:
        assert record["device"].encode() not in sent
        assert str(record["time"]).encode() not in sent
        assert (record["id"].encode() in sent) is (record in left)
    everything = (sent + bytes(wire.received)).lower()
    for word in (*FORBIDDEN, "98765", ".12345", ".56789", SECRET):
        assert word.encode() not in everything, word
    bodies = [orjson.loads(body) for _, body in stored_in(site.hub)]
    assert {frozenset(body) for body in bodies} == {
        frozenset({"id", "device", "time", "score", "severity", "readings"})
    }
    await check_outcomes(site, len(left), len(records) - len(left))


async def check_outcomes(site: Site, left: int, held_back: int) -> None:
    """Each anomaly's outcome, the batches' audit records, and that the receipt adds up with both."""
    deliveries = values_of(await site.records(site.settings.topic_deliveries))
    by_outcome = {"acknowledged": 0, "held-back": 0}
    for value in deliveries:
        by_outcome[value["outcome"]] += 1
    assert by_outcome == {"acknowledged": left, "held-back": held_back}
    audit = [v for v in values_of(await site.records(site.settings.topic_audit)) if v["kind"] == "departed"]
    check = Draft202012Validator(load_schema("audit-departed"))
    for value in audit:
        check.validate(value)
        assert value["policy"] != DEFAULT_POLICY.digest
        assert "readings.flow" in value["fields"]
    assert sum(value["count"] for value in audit) == left
    assert {value["batch"] for value in audit} == {v["batch"] for v in deliveries if v["batch"]}
    receipt = (await site.settled()).receipt()
    assert receipt.adds_up
    assert (receipt.acknowledged, receipt.held_back) == (left, held_back)


async def test_a_wrong_policy_is_told_at_once_and_in_one_line(site: Site, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\n[fields]\nid = "leave"\ndevice = "encrypt"\n')
    for command in ("bridge", "check"):
        done = await site.run(command, policy=str(policy))
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if "policy.toml" in line]
        assert "fields.device: give leave, hash, drop or { round = … }" in line
        assert "Traceback" not in done.stderr
