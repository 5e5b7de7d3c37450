"""Name look-ups that nobody answers: they end in time, and take one thread for all of them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from farshore.agents.names import NameLookup, NameUnknownError


async def test_silent_name_servers_cost_one_thread_however_often_they_are_asked() -> None:
    """By itself the SDK left a thread behind with each attempt, until nothing ran in threads any more."""
    answered = threading.Event()
    asked: list[str] = []

    def silent(host: str, port: int) -> None:
        asked.append(host)
        answered.wait()

    names = NameLookup(silent)
    threads = threading.active_count()
    for _ in range(40):
        with pytest.raises(TimeoutError):
            await names.look_up("hub.example", 5671, seconds_max=0.02)
    assert threading.active_count() == threads + 1
    assert asked == ["hub.example"]
    assert await asyncio.to_thread(lambda: 7) == 7
    answered.set()
    await names.look_up("hub.example", 5671, seconds_max=10)


async def test_a_name_that_does_not_exist_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(NameUnknownError, match=r"no-such-name\.invalid"):
        await NameLookup(_unknown).look_up("no-such-name.invalid", 5671, seconds_max=10)
    assert time.monotonic() - began < 5


def _unknown(host: str, port: int) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_addresses_need_no_name_server(host: str) -> None:
    def never(_host: str, _port: int) -> None:
        raise AssertionError

    await NameLookup(never).look_up(host, 5671, seconds_max=1)


async def test_after_a_failure_the_name_is_asked_for_again() -> None:
    answers = iter([socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), None])

    def twice(_host: str, _port: int) -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    names = NameLookup(twice)
    with pytest.raises(NameUnknownError, match="Temporary failure"):
        await names.look_up("hub.example", 5671, seconds_max=10)
    await names.look_up("hub.example", 5671, seconds_max=10)
