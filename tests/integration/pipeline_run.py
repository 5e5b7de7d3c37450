"""One run of the whole pipeline over good and bad events, and everything it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from farshore.agents.receipts import SiteCount
from farshore.schemas.reasons import DeadLetterReason as Reason

from ..site import FEATURES, EventSource, Site, open_site

GOOD_EVENTS = 3_000
MEGABYTE = 1024 * 1024


def _event(**changes: object) -> dict[str, Any]:
    readings = dict.fromkeys(FEATURES, 0.5)
    return {"device": "pump-bad", "time": 1_700_000_000_000, "readings": readings} | changes


def _with_flow(text: str) -> bytes:
    """An event whose first reading is `text`, whatever that is."""
    return orjson.dumps(_event(readings=dict.fromkeys(FEATURES, 0.5) | {"flow": "FLOW"})).replace(
        b'"FLOW"', text.encode()
    )


_without_vibration = {name: 0.5 for name in FEATURES if name != "vibration"}

BAD: dict[str, tuple[bytes | None, Reason]] = {
    "no JSON": (b"temperature=71.3;pressure=2", Reason.NOT_JSON),
    "JSON cut short": (orjson.dumps(_event())[:-3], Reason.NOT_JSON),
    "an array": (b"[1,2,3]", Reason.NOT_OBJECT),
    "a number": (b"42", Reason.NOT_OBJECT),
    "a feature missing": (orjson.dumps(_event(readings=_without_vibration)), Reason.MISSING_FEATURE),
    "no readings": (b'{"device":"pump-bad","time":1700000000000}', Reason.MISSING_FEATURE),
    "a string for a number": (_with_flow('"71.3"'), Reason.BAD_FEATURE),
    "null for a number": (_with_flow("null"), Reason.BAD_FEATURE),
    "true for a number": (_with_flow("true"), Reason.BAD_FEATURE),
    "an object for a number": (_with_flow('{"value":1}'), Reason.BAD_FEATURE),
    "NaN": (_with_flow("NaN"), Reason.NOT_JSON),
    "more than float32 holds": (_with_flow("1e39"), Reason.OUT_OF_RANGE),
    "no time": (orjson.dumps({"device": "pump-bad", "readings": {}}), Reason.BAD_TIME),
    "a time before 1970": (orjson.dumps(_event(time=-1)), Reason.BAD_TIME),
    "a time after 2099": (orjson.dumps(_event(time=4_102_444_800_000)), Reason.BAD_TIME),
    "a time in words": (orjson.dumps(_event(time="yesterday")), Reason.BAD_TIME),
    "no device": (orjson.dumps({"time": 1, "readings": {}}), Reason.BAD_DEVICE),
    "an empty value": (b"", Reason.EMPTY),
    "a null value": (None, Reason.EMPTY),
    "five megabytes": (orjson.dumps(_event(note="x" * 5 * MEGABYTE)), Reason.TOO_LARGE),
    "deep nesting": (b"[" * 50_000 + b"]" * 50_000, Reason.NOT_JSON),
    "bytes that are no UTF-8": (
        orjson.dumps(_event(note="NOTE")).replace(b"NOTE", b"\xff\xfe"),
        Reason.NOT_UTF8,
    ),
}
"""Values by what is wrong with them, and the reason their dead letter must give."""

DUPLICATE_KEYS = (
    b'{"device":"pump-twice","time":1,"time":1700000000000,"readings":'
    b'{"flow":"no number","flow":0.25,"pressure":0.5,"temperature":0.5,"vibration":0.5}}'
)
"""Not wrong: of duplicate keys the last counts."""


@dataclass(frozen=True)
class PipelineRun:
    """What every topic and the hub held after the run."""

    site: Site
    events: list[ConsumerRecord]
    scored: list[ConsumerRecord]
    anomalies: list[ConsumerRecord]
    deliveries: list[ConsumerRecord]
    dead_letters: list[ConsumerRecord]
    hub_events: list[Any]
    count: SiteCount
    logs: dict[str, str]
    warnings: dict[str, list[str]]


async def run_pipeline(bootstrap: str, prefix: str, folder: Path, package: Path) -> PipelineRun:
    """Publish, score, deliver, stop in good order, read everything back."""
    async with open_site(bootstrap, prefix, folder, package) as site:
        good = EventSource(seed=3).take(GOOD_EVENTS)
        half = len(good) // 2
        bad = [(f"key of {name}".encode(), value) for name, (value, _) in BAD.items()]
        workers = {"score": site.launch("score"), "bridge": site.launch("bridge")}
        # Bad ones in the middle of good ones, in the same polls and partitions.
        mixed = good[half : half + 200]
        for number, event in enumerate(bad):
            mixed.insert(number * 7, event)
        await site.publish(good[:half])
        await site.publish([*mixed, (b"pump-twice", DUPLICATE_KEYS)])
        await site.publish(good[half + 200 :])
        count = await site.settled()
        names = site.settings.topics
        for worker in workers.values():
            await worker.stop()
        return PipelineRun(
            site=site,
            events=await site.records(names.events),
            scored=await site.records(names.scored),
            anomalies=await site.records(names.anomalies),
            deliveries=await site.records(names.deliveries),
            dead_letters=await site.records(names.dead_letters),
            hub_events=await site.read_hub(),
            count=count,
            logs={name: worker.log for name, worker in workers.items()},
            warnings={name: worker.lines("WARNING", "ERROR") for name, worker in workers.items()},
        )
