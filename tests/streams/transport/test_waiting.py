"""Batches that wait together are taken together, within the bound, in order, and none is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.transport.waiting import all_that_waits

GENERATION = 3


class Message:
    """One of the assignment `generation_id`; hashed by identity, as Faust's are."""

    def __init__(self, generation_id: int) -> None:
        self.generation_id = generation_id
        self.tracked = False


class Stream:
    """A stream over a queue, as far as it is asked: each event is a batch of so many rows."""

    def __init__(self) -> None:
        self.channel = SimpleNamespace(queue=asyncio.Queue[Any]())
        self.active = True
        self.app = SimpleNamespace(
            flow_control=SimpleNamespace(is_active=lambda: self.active),
            consumer_generation_id=GENERATION,
            consumer=SimpleNamespace(unacked=set()),
        )
        self.acknowledged: list[int] = []

    def noack(self) -> Stream:
        return self

    async def events(self) -> AsyncIterator[Any]:
        while True:
            event = await self.channel.queue.get()
            if event is None:
                return
            yield event

    def put(self, sizes: Sequence[int], *, generation: int = GENERATION) -> None:
        for rows in sizes:
            self.channel.queue.put_nowait(
                SimpleNamespace(
                    value=range(rows),
                    message=Message(generation),
                    ack=partial(self.acknowledged.append, rows),
                )
            )


async def taken(polls: Sequence[Sequence[int]], rows_max: int) -> list[list[int]]:
    """The sizes that come together when each poll arrives after the one before it was taken."""
    stream, found = Stream(), list[list[int]]()

    async def agent() -> None:
        async for events in all_that_waits(stream, rows_max=rows_max):
            found.append([len(event.value) for event in events])

    running = asyncio.create_task(agent())
    for sizes in polls:
        stream.put(sizes)
        while not stream.channel.queue.empty() and not running.done():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [size for sizes in found for size in sizes] == [size for sizes in polls for size in sizes]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return found


async def test_what_one_poll_brought_comes_together_and_the_next_poll_by_itself() -> None:
    assert await taken([[2, 1, 3], [1]], rows_max=100) == [[2, 1, 3], [1]]


async def test_a_batch_that_would_pass_the_bound_begins_the_next_list_and_a_large_one_comes_alone() -> None:
    assert await taken([[4, 4, 4, 50, 1]], rows_max=10) == [[4, 4], [4], [50], [1]]


async def test_with_a_bound_of_nothing_each_batch_comes_alone() -> None:
    assert await taken([[1, 1], [2]], rows_max=0) == [[1], [1], [2]]


@given(polls=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=5))
async def test_nothing_is_left_behind_and_no_list_of_several_passes_the_bound(polls: list[list[int]]) -> None:
    for sizes in await taken(polls, rows_max=12):
        assert len(sizes) == 1 or sum(sizes) <= 12


async def test_between_two_lists_the_loop_has_its_turn() -> None:
    stream = Stream()
    stream.put([4, 4, 4])
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "heartbeat")
    lists = all_that_waits(stream, rows_max=5)
    for _ in range(3):
        await anext(lists)
        order.append("scored")
    assert order == ["scored", "heartbeat", "scored", "scored"]


async def test_what_is_taken_behind_the_first_is_noted_as_being_worked_on() -> None:
    stream = Stream()
    stream.put([1, 2, 3])
    events = await anext(all_that_waits(stream, rows_max=100))
    behind = events[1:]
    assert [event.message.tracked for event in behind] == [True, True]
    assert stream.app.consumer.unacked == {event.message for event in behind}
    assert stream.acknowledged == []


async def test_one_of_an_earlier_assignment_is_acknowledged_unseen() -> None:
    stream = Stream()
    stream.put([1])
    stream.put([2, 3], generation=GENERATION - 1)
    stream.put([4])
    events = await anext(all_that_waits(stream, rows_max=100))
    assert [len(event.value) for event in events] == [1, 4]
    assert stream.acknowledged == [2, 3]


async def test_while_the_flow_is_suspended_nothing_more_is_taken() -> None:
    stream = Stream()
    stream.put([1, 2])
    stream.active = False
    events = await anext(all_that_waits(stream, rows_max=100))
    assert [len(event.value) for event in events] == [1]
    assert stream.channel.queue.qsize() == 1
