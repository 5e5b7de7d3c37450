"""Bad events among good ones: each becomes a dead letter with its reason, untouched, and stops nothing."""

from __future__ import annotations

import orjson
import pytest

from ..site import values_of
from .pipeline_run import BAD, DUPLICATE_KEYS, GOOD_EVENTS, PipelineRun

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
