"""Name look-ups that starve nothing: one thread of our own, whatever the name servers do.

A look-up cannot be cancelled. With a dead uplink it may take minutes, and each new attempt would leave one
more thread behind, in pools that Kafka's reconnects need too. Here a look-up that does not come back is
waited for again by the next attempt, so that there is one such thread at most for each name; it ends no
later than its name servers are given up. The SDK looks the name up itself right afterwards, when a name
server has just answered.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["NameLookup", "NameUnknownError"]

Lookup = Callable[[str, int], object]

_NEEDS_NO_SERVER: Final = frozenset({"localhost"})


class NameUnknownError(Exception):
    """A name server says that there is no such name, or that it cannot tell now."""


def _ask_system(host: str, port: int) -> object:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class NameLookup:
    """Asks for names, each in one thread at most."""

    def __init__(self, lookup: Lookup = _ask_system) -> None:
        self._lookup = lookup
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def look_up(self, host: str, port: int, seconds_max: float) -> None:
        """Return once the name is known; raises NameUnknownError, or TimeoutError when nobody answers."""
        if host in _NEEDS_NO_SERVER or _is_address(host):
            return
        answer = self._under_way.get(host)
        if answer is None:
            answer = self._under_way[host] = self._ask(host, port)
        done, _ = await asyncio.wait({answer}, timeout=seconds_max)
        if not done:
            raise TimeoutError
        answer.result()

    def _ask(self, host: str, port: int) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def finish(error: OSError | UnicodeError | None) -> None:
            self._under_way.pop(host, None)
            if error is None:
                answer.set_result(None)
            else:
                told = getattr(error, "strerror", None) or str(error)
                answer.set_exception(NameUnknownError(f"the name {host} is not known: {told}"))
                answer.exception()  # nobody may be waiting any more

        def ask() -> None:
            error: OSError | UnicodeError | None = None
            try:
                self._lookup(host, port)
            except (OSError, UnicodeError) as caught:
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, error)

        # A daemon: the end of the process waits for no name server.
        threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
        return answer


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
