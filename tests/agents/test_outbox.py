"""The way out to Kafka, on the real broker: order, sizes, settlements, and what the log says of an outage."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from farshore.agents.faust_app import make_app
from farshore.agents.outbox import BrokerState, Outbox, Settlement
from farshore.agents.oversize import OversizeError
from farshore.streams.scoring.pipeline import Columns

from ..site import Site, until

MEGABYTE = 1024 * 1024


@pytest.fixture
async def site(broker: Any, topic_prefix: str, tmp_path: Path) -> Site:
    """Names of its own on the broker; topics are made by the tests."""
    return Site(broker.bootstrap, topic_prefix, tmp_path, tmp_path)


@pytest.fixture
async def failures() -> list[BaseException]:
    """What the outbox could not mend."""
    return []


@pytest.fixture
async def outbox(site: Site, failures: list[BaseException]) -> AsyncIterator[Outbox]:
    """An outbox on the producer of a real app."""
    app = make_app(site.settings, group=site.prefix + "outbox", outputs=())
    await app.producer.start()
    opened = Outbox(lambda: app.producer, failures.append)
    yield opened
    await opened.close()
    await app.producer.stop()


async def make_topic(site: Site, **config: str) -> str:
    topic = site.prefix + "out"
    config = {name.replace("_", "."): value for name, value in config.items()}
    async with site.admin() as admin:
        await admin.create_topics([NewTopic(topic, 2, 1, topic_configs=config)])
    await until(lambda: ready(site, topic), "leaders")
    return topic


async def ready(site: Site, topic: str) -> bool:
    async with site.admin() as admin:
        (described,) = await admin.describe_topics([topic])
    partitions = described["partitions"]
    return len(partitions) == 2 and all(partition["leader"] >= 0 for partition in partitions)


def columns(values: list[bytes | None], *, headers: bool = False) -> Columns:
    keys: list[bytes | None] = [b"key %d" % index for index in range(len(values))]
    each = [[("reason", b"r%d" % index)] for index in range(len(values))] if headers else []
    return Columns(keys, values, each)


@pytest.mark.broker
async def test_records_of_any_size_leave_in_order_and_settle_when_all_are_there(
    site: Site, outbox: Outbox, failures: list[BaseException]
) -> None:
    topic = await make_topic(site)
    large = [b"a", b"x" * 5 * MEGABYTE, b"b", b"y" * 300_000, b"z" * 300_000, None, b"", b"c"]
    many = [b"%06d" % number * 20 for number in range(10_000)]
    parcels = [columns([b"first"]), columns(large, headers=True), columns(many), columns([b"last"])]
    done: list[int] = []
    for number, parcel in enumerate(parcels):
        outbox.put(topic, 1, parcel, Settlement(1, lambda number=number: done.append(number)))
    outbox.put(topic, 0, columns([b"beside"]), Settlement(1, lambda: done.append(99)))
    await until(lambda: len(done) == len(parcels) + 1, "settled")
    assert [number for number in done if number != 99] == [0, 1, 2, 3]
    records = await site.records(topic)
    assert [record.value for record in records if record.partition == 1] == [b"first", *large, *many, b"last"]
    letters = [record for record in records if record.headers]
    assert [dict(record.headers)["reason"] for record in letters] == [b"r%d" % i for i in range(len(large))]
    assert failures == []


@pytest.mark.broker
async def test_a_settlement_waits_for_every_parcel(site: Site, outbox: Outbox) -> None:
    topic = await make_topic(site)
    done: list[bool] = []
    settlement = Settlement(3, lambda: done.append(True))
    outbox.put(topic, 0, columns([b"x" * MEGABYTE] * 8), settlement)
    outbox.put(topic, 1, columns([b"1"]), settlement)
    await until(lambda: asyncio.sleep(0, len(outbox._lanes[topic, 0]._waiting) == 0), "both acknowledged")
    assert done == []
    outbox.put(topic, 1, columns([b"2"]), settlement)
    await until(lambda: done == [True], "settled")


@pytest.mark.broker
async def test_records_that_together_are_too_large_for_their_topic_leave_in_parts(
    site: Site, outbox: Outbox, failures: list[BaseException]
) -> None:
    topic = await make_topic(site, max_message_bytes="3000")
    values: list[bytes | None] = [b"%03d" % number * 100 for number in range(100)]
    done: list[bool] = []
    outbox.put(topic, 0, columns(values), Settlement(1, lambda: done.append(True)))
    await until(lambda: done == [True] or failures != [], "settled")
    assert failures == []
    assert [record.value for record in await site.records(topic)] == values


def dead_letters(values: list[bytes | None], key: bytes = b"pump-1") -> Columns:
    """As the pipeline makes them; the offset of each is its index."""
    place = [("reason", b"too-large"), ("topic", b"events"), ("partition", b"3")]
    headers = [[*place, ("offset", b"%d" % index)] for index in range(len(values))]
    return Columns([key] * len(values), values, headers)


@pytest.mark.broker
async def test_what_came_compressed_leaves_compressed_and_what_does_not_fit_even_so_is_cut(
    site: Site, outbox: Outbox, failures: list[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    topic = await make_topic(site, max_message_bytes="100000")
    repeating, noise = b"[" * 20 * MEGABYTE, random.Random(5).randbytes(300_000)
    small_noise = noise[:90_000] + noise[:50_000]  # no batch of its own, and too large all the same
    letters = dead_letters([b"before", repeating, noise, small_noise, b"behind"])
    done: list[bool] = []
    outbox.put(topic, 0, letters, Settlement(1, lambda: done.append(True)))
    await until(lambda: done == [True] or failures != [], "settled")
    assert failures == []
    first, whole, cut, small_cut, last = await site.records(topic)
    assert (first.value, last.value) == (b"before", b"behind")
    assert whole.value == repeating
    assert "truncated" not in dict(whole.headers)
    for record, value in ((cut, noise), (small_cut, small_noise)):
        assert record.key == b"pump-1"
        assert 50_000 <= len(record.value) < 100_000
        assert value.startswith(record.value)
        headers = dict(record.headers)
        assert headers["truncated"] == b"%d" % len(value)
        assert headers["sha256"] == hashlib.sha256(value).hexdigest().encode()
        assert headers["reason"] == b"too-large"
    assert sum("raise max.message.bytes" in line for line in caplog.messages) == 1


@pytest.mark.broker
@pytest.mark.parametrize("scored", [True, False])
async def test_a_record_that_fits_in_no_way_ends_the_worker_and_says_which_it_is_and_what_to_set(
    site: Site, outbox: Outbox, failures: list[BaseException], scored: bool
) -> None:
    topic = await make_topic(site, max_message_bytes="1000")
    key = random.Random(6).randbytes(2_000)
    value = b'{"source":{"topic":"events","partition":3,"offset":0}}'
    parcel = Columns([key], [value]) if scored else dead_letters([b"a value"], key)
    done: list[bool] = []
    outbox.put(topic, 0, parcel, Settlement(1, lambda: done.append(True)))
    await until(lambda: len(failures) == 1, "failed")
    assert isinstance(failures[0], OversizeError)
    assert "events/3 offset 0" in str(failures[0])
    assert f"raise max.message.bytes of {topic!r}" in str(failures[0])
    assert done == []


@pytest.mark.broker
async def test_a_closed_outbox_takes_nothing_more(site: Site, outbox: Outbox) -> None:
    topic = await make_topic(site)
    await outbox.close()
    outbox.put(topic, 0, columns([b"late"]), Settlement(1, lambda: pytest.fail("settled")))
    await asyncio.sleep(0.2)
    assert await site.records(topic) == []


def test_a_settlement_without_parcels_is_settled_at_once() -> None:
    done: list[bool] = []
    Settlement(0, lambda: done.append(True))
    assert done == [True]


def test_an_outage_is_two_lines_over_all_lanes(caplog: pytest.LogCaptureFixture) -> None:
    now = [10.0]
    state = BrokerState(clock=lambda: now[0])
    first, second = ("scored", 0), ("scored", 1)
    state.up(first)
    for lane in (first, second, first):
        state.down(lane, "silent")
        now[0] += 5
    state.up(first)
    state.up(first)
    state.down(first, "silent again, while the second still waits")
    state.up(first)
    now[0] += 1.5
    state.up(second)
    assert [record.getMessage() for record in caplog.records] == [
        "Kafka does not acknowledge results (silent); trying on, nothing is lost",
        "Kafka acknowledges results again after 16.5 s",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
