"""The control door: faults and figures from another process, as JSON lines over TCP on 127.0.0.1.

    {"fault": "busy", "count": 2}            → {"ok": true}
    {"fault": "delay", "delay_seconds": 0.5} → {"ok": true}
    {"fault": "none"}                        → {"ok": true}
    {"stats": true}                          → {"stats": {"events": 0, ...}}
    anything else                            → {"error": "..."}

One request a line, one response a line, any number on a connection. A fault is in force when its response
arrives.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from .faults import FaultKind
from .server import HOST, EventHubsStandIn
from .stats import Stats

LINE_BYTES_MAX = 65_536
REQUEST_SECONDS_MAX = 5.0
_FAULT_FIELDS = frozenset({"fault", "count", "delay_seconds", "bytes_per_second"})


class ControlError(Exception):
    """The control door did not do what it was asked, or nobody is behind it."""


class ControlDoor:
    """Serves requests about `stand_in` while it is open."""

    def __init__(self, stand_in: EventHubsStandIn, port: int = 0) -> None:
        self._stand_in = stand_in
        self._asked_port = port
        self._server: asyncio.Server | None = None
        self._visitors: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self._asked_port, limit=LINE_BYTES_MAX)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._visitors):
            writer.close()

    @property
    def port(self) -> int:
        """The door's port on 127.0.0.1."""
        assert self._server is not None, "the door is not open"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visitors.add(writer)
        try:
            while line := await reader.readline():
                response = await self._respond(line)
                writer.write(json.dumps(response).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # hung up in the middle, or a line over the limit
        finally:
            self._visitors.discard(writer)
            writer.close()

    async def _respond(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            if request == {"stats": True}:
                return {"stats": asdict(self._stand_in.stats())}
            await self._stand_in.fault(**_fault_arguments(request))
        except (ValueError, TypeError) as error:
            return {"error": str(error)}
        return {"ok": True}


def _fault_arguments(request: object) -> dict[str, Any]:
    """The arguments of `fault` that a request spells out; their types are checked there."""
    if not isinstance(request, dict) or "fault" not in request or not request.keys() <= _FAULT_FIELDS:
        raise ValueError(f"a request has the fields {sorted(_FAULT_FIELDS)}, or stats")
    return {"kind": request.pop("fault"), **request}


class Control:
    """The other side of the door. Each call is its own connection, within `REQUEST_SECONDS_MAX`."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def fault(
        self,
        kind: FaultKind | str,
        count: int | None = None,
        *,
        delay_seconds: float = 1.0,
        bytes_per_second: int = 65_536,
    ) -> None:
        """Switch a fault on, in place of the one that was. Raises `ControlError`."""
        await self._ask(
            {
                "fault": str(kind),
                "count": count,
                "delay_seconds": delay_seconds,
                "bytes_per_second": bytes_per_second,
            }
        )

    async def clear(self) -> None:
        """Switch the fault off. Raises `ControlError`."""
        await self._ask({"fault": str(FaultKind.NONE)})

    async def stats(self) -> Stats:
        """The figures now. Raises `ControlError`."""
        figures = (await self._ask({"stats": True}))["stats"]
        if not isinstance(figures, dict):
            raise ControlError(f"these are no figures: {figures!r}")
        return Stats(**figures)

    async def _ask(self, request: dict[str, object]) -> dict[str, object]:
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(HOST, self.port, limit=LINE_BYTES_MAX)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    response = json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, ValueError) as error:
            raise ControlError(f"no answer on port {self.port}: {error!r}") from error
        if not isinstance(response, dict) or "error" in response:
            raise ControlError(str(response))
        return response
