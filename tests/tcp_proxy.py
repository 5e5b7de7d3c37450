"""A TCP proxy that a test can cut, silence, delay and throttle while clients go on talking through it.

It stands between a worker and the broker's extra listener that advertises the proxy's address. Bytes are
never changed, dropped or reordered within a connection: as on a real line, it is whole or it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
LINGER_NOT = struct.pack("ii", 1, 0)  # closing sends a reset, as a dead line's peer would see


@dataclass(slots=True)
class Line:
    """What the line does now; all connections in both directions share `bytes_per_second`."""

    refuses: bool = False
    silent: bool = False
    delay_seconds: float = 0.0
    bytes_per_second: float | None = None


class TcpProxy:
    """Listens on `port` and forwards to `target_port`, both on the loopback address."""

    def __init__(self, port: int, target_port: int) -> None:
        self.line = Line()
        self.connections_accepted = 0
        self.port = port
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._free_at = 0.0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection and refuse new ones until `heal`."""
        self.line.refuses = True
        self._reset_all()

    def reset(self) -> None:
        """Reset every connection once; new ones are taken at once."""
        self._reset_all()

    def silence(self) -> None:
        """Pass nothing on until `heal`; connections stay, new ones are accepted and hear nothing."""
        self.line.silent = True

    def slow(self, *, delay_seconds: float = 0.0, bytes_per_second: float | None = None) -> None:
        """Delay each piece by `delay_seconds`, or let only so many bytes a second through."""
        self.line.delay_seconds, self.line.bytes_per_second = delay_seconds, bytes_per_second

    def heal(self) -> None:
        """A good line again; what a silent line held back is passed on now."""
        self.line = Line()
        self._changed.set()
        self._changed = asyncio.Event()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.line.refuses:
            _reset(writer)
            return
        self.connections_accepted += 1
        try:
            onward_reader, onward_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, onward_writer}
        for source, target in ((reader, onward_writer), (onward_reader, writer)):
            task = asyncio.create_task(self._pump(source, target, (writer, onward_writer)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        """Pieces are read ahead, each passed on `delay_seconds` after it came: latency, not bandwidth."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        reading = asyncio.create_task(self._read(source, pieces))
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):
                while True:
                    due, piece = await pieces.get()
                    if not piece:
                        break
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    await self._allowance(len(piece))
                    while self.line.silent:
                        await self._changed.wait()
                    target.write(piece)
                    await target.drain()
        finally:
            reading.cancel()
            for writer in both:
                self._writers.discard(writer)
                writer.close()

    async def _read(self, source: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                piece = await source.read(CHUNK_BYTES)
            except OSError:
                piece = b""
            await pieces.put((loop.time() + self.line.delay_seconds, piece))
            if not piece:
                return

    async def _allowance(self, size: int) -> None:
        """Wait until the line is free for `size` bytes more."""
        rate = self.line.bytes_per_second
        if rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / rate
        await asyncio.sleep(self._free_at - now)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    transport = writer.transport
    transport.abort()
