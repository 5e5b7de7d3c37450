"""A TCP proxy that keeps every byte that passes, so that a test can say what did not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 65_536


class Recorder:
    """What came from the client (`sent`) and from the server (`received`)."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.sent = bytearray()
        self.received = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(
                self._pump(reader, onward, self.sent), self._pump(there, writer, self.received)
            )
        finally:
            onward.close()
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(_CHUNK_BYTES):
                kept += chunk
                sink.write(chunk)
                await sink.drain()
        with suppress(OSError, RuntimeError):
            sink.close()

    def end(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def recording(port: int) -> AsyncIterator[Recorder]:
    """A recorder before the local `port`."""
    recorder = Recorder(port)
    server = await asyncio.start_server(recorder.connect, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        recorder.end()
        server.close()
