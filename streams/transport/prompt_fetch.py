"""Fetches that leave no partition out: the next one is asked for when the records of the last one are taken.

aiokafka asks again as soon as an answer is there, for all partitions but those whose records nobody has taken
yet. These have to wait for the answer to a request that they are not part of, and where the others are silent
that takes the whole wait of a fetch: a lone busy partition beside idle ones would stall for half a second,
again and again. Here an answer counts as dealt with once its records are taken.

Guarantee: the next request goes out at most HOLD_SECONDS_MAX after an answer, however slow the reader is, so
that fetching goes on while a backlog is worked off.
"""

import asyncio
from time import monotonic
from typing import Final

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

__all__ = ["HOLD_SECONDS_MAX", "fetch_promptly"]

HOLD_SECONDS_MAX: Final = 0.01


def fetch_promptly(fetcher: Fetcher) -> None:
    """Have this fetcher wait for its reader, within the bound, before it asks again."""
    process = fetcher._proc_fetch_request

    async def process_and_wait(assignment: object, node_id: int, request: FetchRequest) -> bool:
        has_records = bool(await process(assignment, node_id, request))
        if has_records:
            await _await_taken(fetcher, request)
        return has_records

    fetcher._proc_fetch_request = process_and_wait


async def _await_taken(fetcher: Fetcher, request: FetchRequest) -> None:
    fetched = {
        TopicPartition(topic, partition)
        for topic, partitions in request.topics
        for partition, *_ in partitions
    }
    deadline = monotonic() + HOLD_SECONDS_MAX
    for waiter in fetcher._fetch_waiters:
        fetcher._notify(waiter)
    try:
        await asyncio.sleep(0)  # a reader that waits takes them now
        while not fetched.isdisjoint(fetcher._records) and (left := deadline - monotonic()) > 0:
            await asyncio.wait({fetcher._wait_consume_future}, timeout=left)
            await asyncio.sleep(0)  # the future is made anew by then
    except asyncio.CancelledError:
        return  # as in what this wraps: the assignment is gone, or the consumer is closed
