"""One session of a connection: its links, its windows, and the dispatch of its frames.

Windows count transfer frames. The incoming window is renewed before it is used up; the outgoing one is the
peer's, and links send only while it is open. A delivery in several frames may pass its end by those frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .addresses import Publisher, Requests, publishing_node, reading_node, source_filters
from .composites import Composite, to_value
from .consuming import ConsumingLink
from .errors import (
    NOT_ALLOWED,
    RESOURCE_LIMIT,
    UNATTACHED_HANDLE,
    AttachRefused,
    ProtocolError,
)
from .frames import TRANSFER_FRAME_OVERHEAD, build_frame, transfer_frame
from .links import Link, SendingLink
from .performatives import (
    RECEIVER,
    SENDER,
    Accepted,
    Attach,
    Begin,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Transfer,
)
from .positions import start_sequence
from .publishing import PublishingLink
from .requests import RequestLink, ResponseLink
from .serials import add, distance
from .values import UInt, UShort

if TYPE_CHECKING:
    from .backend import Backend
    from .connection import Connection


class Session:
    """This side's end of a session; its channel is the peer's."""

    def __init__(self, connection: Connection, channel: int, begin: Begin) -> None:
        self.connection = connection
        self.channel = channel
        self.outgoing_window = int(begin.incoming_window)
        self._links: dict[int, Link] = {}
        self._responses: dict[str, ResponseLink] = {}
        self._window_full = self.backend.limits.session_window
        self._window = self._window_full
        self._next_incoming_id = int(begin.next_outgoing_id)
        self._next_outgoing_id = 0
        self._next_delivery_id = 0
        self.is_ended = False

    @property
    def backend(self) -> Backend:
        """What all connections share."""
        return self.connection.backend

    def begin(self) -> None:
        """Answer the peer's begin."""
        window = UInt(self._window)
        handle_max = UInt(self.backend.limits.links_max - 1)
        self.send(Begin(UShort(self.channel), UInt(0), window, window, handle_max))

    def handle(self, performative: Composite, payload: bytes) -> None:
        """Dispatch one frame. Raises `ProtocolError`."""
        match performative:
            case Transfer():
                self._count_transfer()
                self._link(performative.handle).transfer(performative, payload)
            case Flow():
                self._flow(performative)
            case Disposition():
                self._disposition(performative)
            case Attach():
                self._attach(performative)
            case Detach():
                self._detach(performative)
            case _:
                raise ProtocolError(NOT_ALLOWED, f"a {type(performative).__name__} inside a session")

    def send(self, performative: Composite) -> None:
        """Send a frame on this session's channel, unless the session has ended."""
        if not self.is_ended:
            self.connection.write(build_frame(self.channel, performative))

    def send_flow(
        self,
        handle: UInt | None = None,
        *,
        delivery_count: UInt | None = None,
        link_credit: UInt | None = None,
        drain: bool = False,
    ) -> None:
        """Send this side's windows, and with a handle a link's credit."""
        self._window = self._window_full
        self.send(
            Flow(
                UInt(self._next_incoming_id),
                UInt(self._window),
                UInt(self._next_outgoing_id),
                UInt(self._window_full),
                handle,
                delivery_count,
                link_credit,
                drain=drain,
                echo=False,
            )
        )

    def send_transfers(self, handle: int, messages: list[bytes], *, settled: bool) -> None:
        """Send deliveries, each in as many frames as the peer's frame size asks for."""
        payload_max = self.connection.peer_frame_bytes_max - TRANSFER_FRAME_OVERHEAD
        frames: list[bytes] = []
        for message in messages:
            delivery_id = self._next_delivery_id
            for start in range(0, len(message), payload_max):
                end = start + payload_max
                part = message[start:end]
                more = end < len(message)
                frames.append(
                    transfer_frame(self.channel, handle, delivery_id, part, settled=settled, more=more)
                )
            self._next_delivery_id = add(delivery_id, 1)
        self._next_outgoing_id = add(self._next_outgoing_id, len(frames))
        self.outgoing_window -= len(frames)
        self.connection.write(b"".join(frames))

    def response_link(self, name: str) -> ResponseLink | None:
        """The link that responses from the node `name` go out on."""
        return self._responses.get(name)

    def pump(self) -> None:
        """Let every link send what it can."""
        for link in tuple(self._links.values()):
            if isinstance(link, SendingLink):
                link.pump()

    def forget(self, link: Link) -> None:
        """Drop a link that is detached."""
        self._links.pop(link.handle, None)
        if isinstance(link, ResponseLink) and self._responses.get(link.name) is link:
            del self._responses[link.name]
        link.detached()

    def end(self, error: Error | None = None) -> None:
        """End the session from this side."""
        self.send(End(error))
        self.ended()

    def ended(self) -> None:
        """The session is gone: so are its links."""
        self.is_ended = True
        for link in tuple(self._links.values()):
            self.forget(link)

    def _attach(self, attach: Attach) -> None:
        if attach.handle in self._links or attach.handle >= self.backend.limits.links_max:
            raise ProtocolError(RESOURCE_LIMIT, f"handle {attach.handle} is taken or too large")
        try:
            link = self._make_link(attach)
        except AttachRefused as refused:
            # A link that cannot be is first attached to nothing, then detached with the reason.
            role = not attach.role
            count = UInt(0) if role == SENDER else None
            nothing = replace(attach, role=role, source=None, target=None, initial_delivery_count=count)
            self.send(replace(nothing, properties=None))
            error = Error(refused.condition, refused.description)
            self.send(Detach(attach.handle, closed=True, error=error))
            return
        self._links[attach.handle] = link
        if isinstance(link, ResponseLink):
            self._responses[link.name] = link
        self.send(link.answer())
        link.start()

    def _make_link(self, attach: Attach) -> Link:
        hub = self.backend.hub
        if attach.role == SENDER:
            target = publishing_node(attach.target, hub)
            if isinstance(target, Publisher):
                return PublishingLink(self, attach, target.partition)
            return RequestLink(self, attach, target.name)
        source = reading_node(attach.source, hub)
        if isinstance(source, Requests):
            return ResponseLink(self, attach, source.name)
        start = start_sequence(source_filters(attach.source), source.partition)
        return ConsumingLink(self, attach, source.partition, start)

    def _detach(self, detach: Detach) -> None:
        link = self._links.get(detach.handle)
        # A peer also answers a detach of ours; the link is forgotten by then and nothing is to do.
        if link is not None:
            self.send(Detach(detach.handle, closed=detach.closed, error=None))
            self.forget(link)

    def _flow(self, flow: Flow) -> None:
        next_id = 0 if flow.next_incoming_id is None else flow.next_incoming_id
        self.outgoing_window = flow.incoming_window - distance(self._next_outgoing_id, next_id)
        if flow.handle is not None:
            link = self._links.get(flow.handle)
            if link is not None:
                link.flow(flow)
            return
        self.pump()
        if flow.echo:
            self.send_flow()

    def _disposition(self, disposition: Disposition) -> None:
        # Deliveries sent are not kept, so an outcome changes nothing; an unsettled one gets its settlement.
        if disposition.role == RECEIVER and not disposition.settled:
            last = disposition.last if disposition.last is not None else disposition.first
            state = to_value(Accepted())
            self.send(Disposition(SENDER, disposition.first, last, settled=True, state=state))

    def _count_transfer(self) -> None:
        self._next_incoming_id = add(self._next_incoming_id, 1)
        self._window -= 1
        if 2 * self._window < self._window_full:
            self.send_flow()

    def _link(self, handle: int) -> Link:
        try:
            return self._links[handle]
        except KeyError:
            raise ProtocolError(UNATTACHED_HANDLE, f"handle {handle} is not attached") from None
