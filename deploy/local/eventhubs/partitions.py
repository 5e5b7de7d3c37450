"""One partition: an append-only sequence of encoded events in memory, and how far back it reaches.

    begin_sequence <= any readable sequence < next_sequence
    bytes_held <= bytes_max, unless the newest block alone is larger

Events are kept as the blocks they arrived in, undecoded. Past `bytes_max` the oldest blocks go and are
counted in `events_dropped`. Nothing here touches a disk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

OFFSET_STRIDE = 64
"""An event's offset is its sequence number times this: unlike it, so that nobody takes one for the other."""

EVENT_OVERHEAD_BYTES = 64
"""Counted for each event besides its bytes: the object, its place in the block."""

_COMPACT_BLOCKS_MIN = 1_024


class StoredEvent(NamedTuple):
    """An event as it is read."""

    sequence: int
    enqueued_ms: int
    partition_key: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Events of one delivery: they share the time and the key."""

    first_sequence: int
    enqueued_ms: int
    partition_key: str | None
    events: tuple[bytes, ...]
    bytes_held: int


class Partition:
    """Appends, evicts and reads. `now_ms` is wall time; it never runs backwards in what is stored."""

    def __init__(self, name: str, *, bytes_max: int, now_ms: Callable[[], int]) -> None:
        self.name = name
        self.next_sequence = 0
        self.last_enqueued_ms = 0
        self.events_dropped = 0
        self.bytes_held = 0
        self._bytes_max = bytes_max
        self._now_ms = now_ms
        self._blocks: list[Block] = []
        self._oldest = 0  # blocks before it are gone; the list is cut when they are half of it
        self._listeners: set[Callable[[], None]] = set()

    @property
    def begin_sequence(self) -> int:
        """The sequence number of the oldest event still held, or of the next one if none is."""
        return self.next_sequence if self.is_empty else self._blocks[self._oldest].first_sequence

    @property
    def is_empty(self) -> bool:
        """Whether no event is held."""
        return self._oldest == len(self._blocks)

    @property
    def last_offset(self) -> str:
        """The offset of the newest event ever stored, "-1" before the first."""
        return str((self.next_sequence - 1) * OFFSET_STRIDE) if self.next_sequence else "-1"

    def append(self, events: tuple[bytes, ...], partition_key: str | None = None) -> None:
        """Store `events` (at least one) under the next sequence numbers, and wake those who wait."""
        self.last_enqueued_ms = max(self.last_enqueued_ms, self._now_ms())
        size = sum(map(len, events)) + EVENT_OVERHEAD_BYTES * len(events)
        self._blocks.append(Block(self.next_sequence, self.last_enqueued_ms, partition_key, events, size))
        self.next_sequence += len(events)
        self.bytes_held += size
        while self.bytes_held > self._bytes_max and self._oldest < len(self._blocks) - 1:
            self._drop_oldest()
        for wake in tuple(self._listeners):
            wake()

    def read(self, sequence: int, events_max: int) -> list[StoredEvent]:
        """Up to `events_max` (1 or more) events from `sequence` on, or from the oldest held if later."""
        sequence = max(sequence, self.begin_sequence)
        found: list[StoredEvent] = []
        index = bisect_right(self._blocks, sequence, lo=self._oldest, key=_first_sequence) - 1
        index = max(index, self._oldest)
        while index < len(self._blocks) and len(found) < events_max:
            block = self._blocks[index]
            start = sequence + len(found) - block.first_sequence
            chosen = block.events[start : start + events_max - len(found)]
            found += (
                StoredEvent(place, block.enqueued_ms, block.partition_key, data)
                for place, data in enumerate(chosen, block.first_sequence + start)
            )
            index += 1
        return found

    def first_since(self, enqueued_ms: int) -> int:
        """The sequence number of the first held event stored at `enqueued_ms` or later, or the next one."""
        index = bisect_left(self._blocks, enqueued_ms, lo=self._oldest, key=_enqueued_ms)
        return self._blocks[index].first_sequence if index < len(self._blocks) else self.next_sequence

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each append, until `unlisten`."""
        self._listeners.add(wake)

    def unlisten(self, wake: Callable[[], None]) -> None:
        """Stop calling `wake`."""
        self._listeners.discard(wake)

    def _drop_oldest(self) -> None:
        oldest = self._blocks[self._oldest]
        self.bytes_held -= oldest.bytes_held
        self.events_dropped += len(oldest.events)
        # The slot is emptied now and the list cut later: cutting at every append would copy the list each
        # time.
        self._blocks[self._oldest] = Block(oldest.first_sequence, oldest.enqueued_ms, None, (), 0)
        self._oldest += 1
        if self._oldest >= _COMPACT_BLOCKS_MIN and 2 * self._oldest >= len(self._blocks):
            del self._blocks[: self._oldest]
            self._oldest = 0


def _first_sequence(block: Block) -> int:
    return block.first_sequence


def _enqueued_ms(block: Block) -> int:
    return block.enqueued_ms
