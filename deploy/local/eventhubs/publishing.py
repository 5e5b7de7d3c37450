"""Receiving from a producer: store, then acknowledge — and every fault that can come between.

An accepted outcome is sent only after the events are stored.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .composites import Composite
from .errors import (
    BUSY,
    CONNECTION_FORCED,
    DECODE,
    DETACH_FORCED,
    INTERNAL,
    UNAUTHORIZED,
    DecodeError,
    ProtocolError,
)
from .faults import DELIVERY, FaultKind
from .links import ReceivingLink
from .partitions import Partition
from .performatives import Accepted, Attach, Error, Rejected, Released, Transfer
from .publications import read_publication

if TYPE_CHECKING:
    from .session import Session

_MADE_BY_FAULT = "a fault was asked for"


class PublishingLink(ReceivingLink):
    """A producer's link; `partition` is `None` where the hub chooses."""

    def __init__(self, session: Session, attach: Attach, partition: Partition | None) -> None:
        super().__init__(session, attach)
        self._partition = partition

    def delivered(self, first: Transfer, payload: bytes) -> None:
        """Let the fault that is on strike; without one, store and accept."""
        connection = self.session.connection
        fault = self.session.backend.faults.strike(DELIVERY)
        match fault.kind:
            case FaultKind.BUSY:
                self._refuse(first, Rejected(Error(BUSY, "The server is busy. " + _MADE_BY_FAULT)))
            case FaultKind.REJECT:
                self._refuse(first, Rejected(Error(INTERNAL, _MADE_BY_FAULT)))
            case FaultKind.RELEASE:
                self._refuse(first, Released())
            case FaultKind.DETACH:
                self.detach(DETACH_FORCED, _MADE_BY_FAULT)
            case FaultKind.TOKEN_EXPIRED:
                self.detach(UNAUTHORIZED, "The token is expired. " + _MADE_BY_FAULT)
            case FaultKind.END_SESSION:
                self.session.end(Error(INTERNAL, _MADE_BY_FAULT))
            case FaultKind.CLOSE_CONNECTION:
                connection.close(Error(CONNECTION_FORCED, _MADE_BY_FAULT))
            case FaultKind.RESET_BEFORE_STORE:
                connection.reset()
            case FaultKind.DROP_AFTER_STORE:
                self._store(first, payload)
                connection.reset()
            case FaultKind.NO_ACK:
                self._store(first, payload)
            case FaultKind.DELAY:
                self._store(first, payload)
                loop = asyncio.get_running_loop()
                loop.call_later(fault.delay_seconds, self.settle, first, Accepted())
            case _:
                self._store(first, payload)
                self.settle(first, Accepted())

    def _store(self, first: Transfer, payload: bytes) -> None:
        try:
            publication = read_publication(payload, first.message_format or 0)
        except DecodeError as error:
            raise ProtocolError(DECODE, str(error)) from error
        backend = self.session.backend
        if publication.events:
            partition = self._partition or backend.hub.choose(publication.partition_key)
            partition.append(publication.events, publication.partition_key)
        backend.counters.sends_stored += 1

    def _refuse(self, first: Transfer, outcome: Composite) -> None:
        self.session.backend.counters.sends_refused += 1
        self.settle(first, outcome)
