"""The two ends a link can have here: receiving what a producer sends, and sending to a consumer.

A receiving link reassembles deliveries from frames within `link_bytes_max`; a larger one is dropped while it
arrives and rejected at its end, so no peer can make it hold more; credit is renewed at half, so a producer
that obeys it never waits. A sending link sends only within the peer's credit and window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from .composites import Composite, to_value
from .errors import NOT_ALLOWED, SIZE_EXCEEDED, ProtocolError
from .performatives import (
    RECEIVER,
    SENDER,
    Attach,
    Detach,
    Disposition,
    Error,
    Flow,
    Rejected,
    Transfer,
)
from .serials import add, distance
from .values import Symbol, UInt, ULong

if TYPE_CHECKING:
    from .session import Session


class Link(ABC):
    """This side's end of a link; its handle is the peer's."""

    def __init__(self, session: Session, attach: Attach) -> None:
        self.session = session
        self.peer = attach
        self.handle = attach.handle
        self.is_detached = False

    @abstractmethod
    def answer(self) -> Attach:
        """The attach that establishes the link."""

    @abstractmethod
    def start(self) -> None:
        """Begin, now that the answer is sent."""

    @abstractmethod
    def flow(self, flow: Flow) -> None:
        """The peer moved the link's state."""

    @abstractmethod
    def transfer(self, transfer: Transfer, payload: bytes) -> None:
        """The peer sent a frame of a delivery."""

    def detach(self, condition: Symbol, description: str) -> None:
        """Force the link off."""
        self.session.send(Detach(self.handle, closed=True, error=Error(condition, description)))
        self.session.forget(self)

    def detached(self) -> None:
        """The link is gone, for whatever reason; called once."""
        self.is_detached = True


class ReceivingLink(Link):
    """Takes deliveries from a producer or a requester."""

    def __init__(self, session: Session, attach: Attach) -> None:
        super().__init__(session, attach)
        self._bytes_max = session.backend.limits.link_bytes_max
        self._credit_full = session.backend.limits.link_credit
        self._credit = 0
        self._delivery_count = attach.initial_delivery_count or 0
        self._first: Transfer | None = None
        self._parts: list[bytes] = []
        self._bytes = 0

    @abstractmethod
    def delivered(self, first: Transfer, payload: bytes) -> None:
        """A whole delivery has arrived; `first` is its first frame."""

    def answer(self) -> Attach:
        """Announces how large a message may be."""
        return replace(
            self.peer,
            role=RECEIVER,
            initial_delivery_count=None,
            max_message_size=ULong(self._bytes_max),
            properties=None,
        )

    def start(self) -> None:
        """Grant the first credit."""
        self._grant()

    def flow(self, flow: Flow) -> None:
        """The producer's own view of its state; only a question is answered."""
        if flow.echo:
            self._grant()

    def transfer(self, transfer: Transfer, payload: bytes) -> None:
        """Collect the frame; hand over the delivery with its last one."""
        if self._first is None:
            if transfer.delivery_id is None:
                raise ProtocolError(NOT_ALLOWED, "a delivery's first transfer needs a delivery id")
            self._first = transfer
        if transfer.aborted:
            self._clear()
            return
        self._bytes += len(payload)
        if self._bytes <= self._bytes_max:
            self._parts.append(payload)
        else:
            self._parts.clear()
        if not transfer.more:
            self._finish()

    def settle(self, first: Transfer, outcome: Composite) -> None:
        """Say what became of a delivery, unless the sender did not want to know."""
        if self.is_detached or first.settled or first.delivery_id is None:
            return
        identity = first.delivery_id
        self.session.send(
            Disposition(RECEIVER, identity, identity, settled=True, state=to_value(outcome)),
        )

    def _finish(self) -> None:
        first, size = self._first, self._bytes
        assert first is not None
        payload = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._clear()
        if size > self._bytes_max:
            self.session.backend.counters.sends_refused += 1
            description = f"the message has {size} bytes, the link takes {self._bytes_max}"
            self.settle(first, Rejected(Error(SIZE_EXCEEDED, description)))
        else:
            self.delivered(first, payload)
        if not self.is_detached and 2 * self._credit < self._credit_full:
            self._grant()

    def _clear(self) -> None:
        self._first = None
        self._parts = []
        self._bytes = 0
        self._credit -= 1
        self._delivery_count = add(self._delivery_count, 1)

    def _grant(self) -> None:
        self._credit = self._credit_full
        self.session.send_flow(
            self.handle, delivery_count=UInt(self._delivery_count), link_credit=UInt(self._credit)
        )


class SendingLink(Link):
    """Sends to a consumer or answers a requester."""

    def __init__(self, session: Session, attach: Attach) -> None:
        super().__init__(session, attach)
        self._delivery_count = 0
        self.credit = 0

    @abstractmethod
    def pump(self) -> None:
        """Send what is there, within `credit`, the session's window and what the socket takes."""

    def answer(self) -> Attach:
        """Starts the delivery count at 0."""
        return replace(
            self.peer,
            role=SENDER,
            initial_delivery_count=UInt(0),
            max_message_size=ULong(self.session.backend.limits.link_bytes_max),
            properties=None,
        )

    def start(self) -> None:
        """Nothing is sent before the peer grants credit."""

    def flow(self, flow: Flow) -> None:
        """Take the peer's credit and send."""
        if flow.link_credit is not None:
            granted_up_to = add(flow.delivery_count or 0, flow.link_credit)
            self.credit = max(0, distance(granted_up_to, self._delivery_count))
        self.pump()
        if flow.drain and self.credit and not self.is_detached:
            # Whoever drains is told that the credit it gave is used up.
            self._delivery_count = add(self._delivery_count, self.credit)
            self.credit = 0
            self._report(drain=True)
        elif flow.echo and not self.is_detached:
            self._report(drain=bool(flow.drain))

    def transfer(self, transfer: Transfer, payload: bytes) -> None:
        """Never: the peer is the receiver."""
        raise ProtocolError(NOT_ALLOWED, "a transfer on a link that the peer receives on")

    def send_messages(self, messages: list[bytes]) -> None:
        """Send as many deliveries, for which there is credit and window."""
        self._delivery_count = add(self._delivery_count, len(messages))
        self.credit -= len(messages)
        # The peer asked for what it wants: 0 is unsettled; everything else is sent settled.
        self.session.send_transfers(self.handle, messages, settled=self.peer.snd_settle_mode != 0)

    def _report(self, *, drain: bool) -> None:
        self.session.send_flow(
            self.handle,
            delivery_count=UInt(self._delivery_count),
            link_credit=UInt(self.credit),
            drain=drain,
        )
