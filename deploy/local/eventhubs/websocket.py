"""A second way into the stand-in: AMQP over WebSockets, as the service offers it on port 443.

Each WebSocket is a TCP connection to the stand-in; bytes go both ways as they are, so that every fault shows
here too. Without a TLS context it is `ws://`, with one `wss://`.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Final, Self

from aiohttp import WSMsgType, web

from .server import HOST, EventHubsStandIn

PATH: Final = "/$servicebus/websocket"
PROTOCOL: Final = "AMQPWSB10"
_CHUNK_BYTES: Final = 65_536


class WebSocketDoor:
    """Open while it is entered; `port` is on 127.0.0.1."""

    def __init__(self, stand_in: EventHubsStandIn, tls: ssl.SSLContext | None = None) -> None:
        self._stand_in = stand_in
        self._tls = tls
        application = web.Application()
        application.router.add_get(PATH, self._serve)
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.5)
        self.accepted = 0

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0, ssl_context=self._tls).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """Where it is open."""
        port: int = self._runner.addresses[0][1]
        return port

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            reader, writer = await asyncio.open_connection(HOST, self._stand_in.port)
        except OSError:
            raise web.HTTPServiceUnavailable from None
        socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
        try:
            await socket.prepare(request)
            self.accepted += 1
            answers = asyncio.ensure_future(_to_peer(reader, socket))
            try:
                async for message in socket:
                    if message.type is WSMsgType.BINARY:
                        writer.write(message.data)
                        await writer.drain()
            except ConnectionError:
                pass  # a fault: the peer sees its WebSocket end
            finally:
                answers.cancel()
        finally:
            writer.close()
        return socket


async def _to_peer(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            await socket.send_bytes(data)
    except ConnectionError:
        pass
    await socket.close()
