"""The stand-in itself: a listening socket on 127.0.0.1, its connections, and the faults that concern all.

The port belongs to the stand-in from start to end: while it refuses, a bound socket that does not listen
keeps the kernel from giving the port to anyone else, a client's own outgoing connection included.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from types import TracebackType
from typing import Self

from .backend import Backend, Limits, Token
from .connection import Connection, Hold
from .faults import NO_FAULT, Fault, FaultKind, FaultSwitch
from .hub import PARTITION_BYTES_MAX, Hub
from .stats import Stats, read_stats

HOST = "127.0.0.1"
KEY_NAME = "RootManageSharedAccessKey"
KEY = "SAS_KEY_VALUE"
BACKLOG = 128


class EventHubsStandIn:
    """An event hub in memory, reached over AMQP 1.0 by the unmodified SDK; TCP, or TLS with a context for it.

    Accepts any key and token. Not here: checkpoints, owner levels, consumer groups other than
    `$default`.
    """

    def __init__(
        self,
        hub: str = "anomalies",
        partitions: int = 4,
        port: int = 0,
        *,
        link_bytes_max: int | None = None,
        partition_bytes_max: int = PARTITION_BYTES_MAX,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        limits = limits or Limits()
        if link_bytes_max is not None:
            limits = replace(limits, link_bytes_max=link_bytes_max)
        self._backend = Backend(Hub(hub, partitions, partition_bytes_max=partition_bytes_max), limits)
        self._connections: dict[Connection, None] = {}
        self._asked_port = port
        self._tls = tls
        self._reservation: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._switching = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._reservation = _bind(self._asked_port)
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_listening()
        self._reset_connections()
        if self._reservation is not None:
            self._reservation.close()
        # One turn of the loop, in which aborted transports close their sockets.
        await asyncio.sleep(0)

    @property
    def hub(self) -> Hub:
        """The events, to look at."""
        return self._backend.hub

    @property
    def faults(self) -> FaultSwitch:
        """The fault that is on, to look at; it is changed by `fault` and `clear`."""
        return self._backend.faults

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The newest tokens that were shown and taken, oldest first."""
        return tuple(self._backend.tokens)

    @property
    def port(self) -> int:
        """The AMQP port on 127.0.0.1."""
        assert self._reservation is not None, "the stand-in has not been started"
        port: int = self._reservation.getsockname()[1]
        return port

    @property
    def connection_string(self) -> str:
        """What the SDK's `from_connection_string` takes."""
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName={KEY_NAME};SharedAccessKey={KEY};"
            f"UseDevelopmentEmulator=true;EntityPath={self.hub.name}"
        )

    async def fault(
        self,
        kind: FaultKind | str,
        count: int | None = None,
        *,
        delay_seconds: float = 1.0,
        bytes_per_second: int = 65_536,
    ) -> None:
        """Switch a fault on, in place of the one that was; it strikes `count` times. Raises `ValueError`."""
        await self._switch(Fault(FaultKind(kind), count, delay_seconds, bytes_per_second))

    async def clear(self) -> None:
        """Switch the fault off."""
        await self._switch(NO_FAULT)

    def stats(self) -> Stats:
        """The figures now."""
        return read_stats(self._backend, len(self._connections))

    async def _switch(self, fault: Fault) -> None:
        # One at a time: to listen again takes a turn of the loop.
        async with self._switching:
            before = self.faults.fault.kind
            self.faults.set(fault)
            if FaultKind.BLACK_HOLE in (before, fault.kind) and before is not fault.kind:
                self._reset_connections() if before is FaultKind.BLACK_HOLE else self._freeze_connections()
            for connection in tuple(self._connections):
                connection.release(Hold.BANDWIDTH)
            if fault.kind is FaultKind.REFUSE:
                self._stop_listening()
                self._reset_connections()
            elif self._server is None:
                await self._listen()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._backend, self._connections),
            sock=_bind(self.port),
            backlog=BACKLOG,
            ssl=self._tls,
        )

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _freeze_connections(self) -> None:
        for connection in tuple(self._connections):
            connection.hold(Hold.FROZEN)

    def _reset_connections(self) -> None:
        for connection in tuple(self._connections):
            connection.reset()


def _bind(port: int) -> socket.socket:
    """A bound socket. With SO_REUSEADDR several may hold a port as long as one listens at most."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound
