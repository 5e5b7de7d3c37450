"""Whose a record is, the lane's or the live reader's, while its mark is being looked up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from farshore.agents.backlog import Backlog
from farshore.agents.errors import BrokerAbsentError
from farshore.agents.live_ahead import LiveAhead
from farshore.agents.partition_reader import PartitionReader
from farshore.streams.transport.batch import PartitionBatch

PART = 3
END = 50
NOWHERE = "127.0.0.1:1"
"""No broker: what the reader would send is of no concern here."""


class SlowAnswers(PartitionReader):
    """The end of a log that is told when `told` says so, or an absent broker if there is no end."""

    def __init__(self, end: int | None) -> None:
        self.asked, self.told = asyncio.Event(), asyncio.Event()
        self._end = end

    async def offset_at(self, *_: Any) -> int | None:
        """Something is younger."""
        return END - 1

    async def bounds(self, *_: Any) -> tuple[int, int]:
        """Not before it is told."""
        self.asked.set()
        await self.told.wait()
        if self._end is None:
            raise BrokerAbsentError("no broker")
        return 0, self._end


def batch_to(next_offset: int) -> PartitionBatch:
    return PartitionBatch("anomalies", PART, next_offset, [next_offset - 1], [0], [b"a"], [b"{}"], 0)


def live_ahead() -> LiveAhead:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is read here")

    backlog = Backlog(lambda: 1, lambda: {PART}, nothing, nothing)
    return LiveAhead(NOWHERE, "anomalies", backlog, lambda: True)


async def enter(ahead: LiveAhead, batch: PartitionBatch) -> None:
    async with ahead.lane(batch):
        pass


async def end_readers(ahead: LiveAhead) -> None:
    tasks = [reading.task for reading in ahead._readings.values() if reading.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_pass_and_a_lane_wait_for_a_mark_that_is_being_looked_up() -> None:
    """They took what stood above the mark for theirs, and the reader sent it as well."""
    ahead, reader = live_ahead(), SlowAnswers(END)
    async with ahead.lane(batch_to(10)):
        looking = asyncio.create_task(ahead._look(reader))
        await reader.asked.wait()
        a_pass = asyncio.create_task(ahead.mark_of(PART))
        lane = asyncio.create_task(enter(ahead, batch_to(END + 1)))
        done, _ = await asyncio.wait({a_pass, lane}, timeout=0.1)
        assert not done
        reader.told.set()
        await looking
        assert await a_pass == END
        # This batch goes beyond the mark: the reader ends before the lane has it.
        assert ahead._readings[PART].task is not None
        await lane
        assert await ahead.mark_of(PART) is None
    await end_readers(ahead)


@pytest.mark.parametrize("end", [END, None])
async def test_nobody_waits_once_the_mark_is_there_or_the_broker_is_away(end: int | None) -> None:
    ahead, reader = live_ahead(), SlowAnswers(end)
    reader.told.set()
    async with ahead.lane(batch_to(10)):
        (error,) = await asyncio.gather(ahead._look(reader), return_exceptions=True)
        assert isinstance(error, BrokerAbsentError) is (end is None)
        assert await ahead.mark_of(PART) == end
    await asyncio.wait_for(enter(ahead, batch_to(20)), 5)
    assert await ahead.mark_of(PART) == end
    await end_readers(ahead)
