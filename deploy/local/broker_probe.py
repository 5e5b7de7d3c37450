"""Asks a broker the one question that tells it is ready: who is in the cluster?

A listening port is not enough: Kafka listens before its broker is registered with the controller, and then
answers with an empty list. Ready is a metadata answer that names at least one broker. Plain sockets, so that
it serves inside and outside of an event loop alike.
"""

from __future__ import annotations

import socket
import struct

__all__ = ["broker_answers"]

METADATA_KEY = 3
METADATA_VERSION = 1
CORRELATION = 1
CLIENT = b"farshore-probe"
ANSWER_BYTES_MAX = 1 << 20


def broker_answers(host: str, port: int, timeout_seconds: float) -> bool:
    """Whether the address answers a metadata request (for no topics) with at least one live broker."""
    header = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, CORRELATION, len(CLIENT)) + CLIENT
    request = header + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            if not 8 <= size <= ANSWER_BYTES_MAX:
                return False
            correlation, brokers = struct.unpack(">ii", _read(connection, size)[:8])
    except (OSError, EOFError):
        return False
    return bool(correlation == CORRELATION and brokers > 0)


def _read(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
