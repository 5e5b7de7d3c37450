"""Thousands of values that nobody should send, through a real scorer: each is scored or set aside."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter

import pytest

from ..fuzz_bytes import FuzzedRecords, corpus_values
from ..site import EventSource, Site, values_of

pytestmark = pytest.mark.broker

FUZZED = 4_000
GOOD = 1_000
NOTHING = 5


async def test_whatever_bytes_arrive_each_event_is_scored_or_set_aside_untouched_and_the_worker_stays_up(
    site: Site,
) -> None:
    seed = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(2**32)))
    sys.stdout.write(f"FAULT_SEED={seed}\n")
    fuzzed = FuzzedRecords(seed)
    good = EventSource(seed=seed).take(GOOD)
    records = [(b"corpus " + name.encode(), value, []) for name, value in corpus_values().items()]
    records += [(*fuzzed.one(), fuzzed.headers()) for _ in range(FUZZED)]
    records += [(b"good " + key, value, []) for key, value in good]
    random.Random(seed).shuffle(records)
    scorer = await site.start("score")
    async with site.producer(linger_ms=5) as producer:
        topic = site.settings.topic_events
        sent = [
            await producer.send(topic, value, key=key, headers=headers) for key, value, headers in records
        ]
        await asyncio.gather(*sent)
        nothing = producer.create_batch()
        for _ in range(NOTHING):
            nothing.append(timestamp=None, key=None, value=None)
        await (await producer.send_batch(nothing, topic, partition=1))
    await site.scored()
    assert scorer.running
    assert scorer.lines("ERROR") == []
    assert "Traceback" not in scorer.log

    names = site.settings.topics
    events = {(e.partition, e.offset): e for e in await site.records(names.events)}
    assert len(events) == len(records) + NOTHING
    letters = await site.records(names.dead_letters)
    scored = values_of(await site.records(names.scored))  # each is JSON that another parser reads
    outcomes = Counter((v["source"]["partition"], v["source"]["offset"]) for v in scored)
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        position = (int(headers["partition"]), int(headers["offset"]))
        outcomes[position] += 1
        event = events[position]
        assert (letter.key, letter.value) == (event.key, event.value)
        assert headers["reason"]
    assert outcomes == Counter(events.keys())
    aside = {(int(dict(r.headers)["partition"]), int(dict(r.headers)["offset"])) for r in letters}
    assert not any((events[position].key or b"").startswith(b"good ") for position in aside)
    assert len(letters) > FUZZED / 2
    await scorer.stop()
