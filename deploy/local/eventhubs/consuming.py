"""Sending to a consumer: one partition in order, from where its filter says, as fast as it grants credit.

Each link reads for itself; the consumer group keeps no position here, as in Event Hubs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .deliveries import deliverable
from .links import SendingLink
from .partitions import Partition
from .performatives import Attach

if TYPE_CHECKING:
    from .session import Session

READ_EVENTS_MAX = 128
"""Events encoded at a time; between two such reads the socket may say stop."""


class ConsumingLink(SendingLink):
    """A consumer's link."""

    def __init__(self, session: Session, attach: Attach, partition: Partition, next_sequence: int) -> None:
        super().__init__(session, attach)
        self._partition = partition
        self._next_sequence = next_sequence
        self._is_woken = False

    def start(self) -> None:
        """Follow the partition."""
        self._partition.listen(self._wake)

    def detached(self) -> None:
        """Stop following."""
        super().detached()
        self._partition.unlisten(self._wake)

    def pump(self) -> None:
        """Send until the events, the credit, the window or the socket's buffer are at an end."""
        while not self.is_detached and self.session.connection.is_writable:
            room = min(self.credit, self.session.outgoing_window, READ_EVENTS_MAX)
            events = self._partition.read(self._next_sequence, room) if room > 0 else []
            if not events:
                return
            self._next_sequence = events[-1].sequence + 1
            self.send_messages([deliverable(event) for event in events])

    def _wake(self) -> None:
        # Later and once: a producer's acknowledgement does not wait for consumers.
        if not self._is_woken:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._woken)

    def _woken(self) -> None:
        self._is_woken = False
        self.pump()
