"""Free TCP ports on the loopback address.

Chosen below the range from which the system takes the ports of outgoing connections: inside it, a client that
keeps dialling a stopped broker can be given the broker's own port as its source, connect to itself, and keep
the broker from coming back. A port is free when returned; nothing reserves it until it is bound.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from pathlib import Path

from .errors import BrokerFailedError

__all__ = ["LOOPBACK", "free_ports", "port_is_free"]

LOOPBACK = "127.0.0.1"
PORT_MIN = 15_000
OUTGOING_PORT_MIN_DEFAULT = 32_768
TRIES_MAX = 200


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Java's server sockets do: connections of a server that just ended do not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int, taken: Collection[int] = ()) -> tuple[int, ...]:
    """Return `count` different free ports that are not among `taken`.

    Raises BrokerFailedError when TRIES_MAX tries did not find them.
    """
    choice = random.SystemRandom()
    high = max(_outgoing_port_min() - 1, PORT_MIN + 1_000)
    found: list[int] = []
    for _ in range(TRIES_MAX):
        if len(found) == count:
            break
        port = choice.randint(PORT_MIN, high)
        if port not in found and port not in taken and port_is_free(port):
            found.append(port)
    if len(found) == count:
        return tuple(found)
    raise BrokerFailedError(f"found no {count} free ports on {LOOPBACK} in {TRIES_MAX} tries")


def _outgoing_port_min() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return OUTGOING_PORT_MIN_DEFAULT
