"""Bad events among good ones: each becomes a dead letter with its reason, untouched, and stops nothing."""

from __future__ import annotations

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from farshore.agents.receipts import count_site

from ..site import EventSource, Site, values_of
from .pipeline_run import BAD, DUPLICATE_KEYS, GOOD_EVENTS, MEGABYTE, PipelineRun

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("name", BAD)
def test_a_bad_event_becomes_a_dead_letter_with_its_reason_and_its_bytes(
    pipeline_run: PipelineRun, name: str
) -> None:
    value, reason = BAD[name]
    key = f"key of {name}".encode()
    event = next(event for event in pipeline_run.events if event.key == key)
    (letter,) = [letter for letter in pipeline_run.dead_letters if letter.key == key]
    headers = {header: text.decode() for header, text in letter.headers}
    assert headers["reason"] == reason
    assert headers["topic"] == pipeline_run.site.settings.topic_events
    assert (int(headers["partition"]), int(headers["offset"])) == (event.partition, event.offset)
    assert len(headers["detail"]) > 3
    assert set(headers) == {"reason", "detail", "topic", "partition", "offset"}
    assert letter.value == value == event.value


def test_only_the_bad_events_are_dead_letters_and_none_of_them_is_scored(pipeline_run: PipelineRun) -> None:
    assert len(pipeline_run.dead_letters) == len(BAD)
    scored_keys = {record.key for record in pipeline_run.scored}
    assert not any(key.startswith(b"key of") for key in scored_keys)
    assert len(pipeline_run.scored) == GOOD_EVENTS + 1


def test_of_duplicate_keys_the_last_counts(pipeline_run: PipelineRun) -> None:
    (event,) = [event for event in pipeline_run.events if event.value == DUPLICATE_KEYS]
    (value,) = [v for v in values_of(pipeline_run.scored) if v["device"] == "pump-twice"]
    assert value["time"] == 1_700_000_000_000
    assert value["source"]["offset"] == event.offset
    assert orjson.loads(event.value)["readings"]["flow"] == 0.25


async def test_an_event_that_only_fits_its_topic_compressed_stops_nothing(site: Site) -> None:
    """The broker bounds what is sent, compressed; the dead letter has to find room for all of it again."""
    topic, value = site.settings.topic_events, b'{"note":"' + b"x" * 20 * MEGABYTE + b'"}'
    producer = AIOKafkaProducer(
        bootstrap_servers=site.bootstrap, compression_type="gzip", max_request_size=2 * len(value)
    )
    await producer.start()
    await producer.send_and_wait(topic, value, key=b"pump-1", partition=0)
    await producer.stop()
    scorer = await site.start("score")
    await site.publish(EventSource(seed=91).take(50), partition=0)
    await site.scored()
    (letter,) = await site.records(site.settings.topic_dead_letters)
    assert letter.value == value
    assert dict(letter.headers)["reason"] == b"too-large"
    receipt = (await count_site(site.settings)).receipt()
    assert (receipt.scored, receipt.dead_letters) == (50, 1)
    assert receipt.adds_up
    assert scorer.lines("WARNING", "ERROR") == []
    await scorer.stop()
