"""`$cbs` and `$management`: a request on one link, its response on the other of the same session and name.

A response carries the request's message id as its correlation id. Tokens are not checked: any is taken.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .addresses import CBS
from .backend import Token
from .decode import decode_value
from .encode import encode_value
from .errors import DECODE, RESOURCE_LIMIT, DecodeError, ProtocolError
from .faults import TOKEN, FaultKind
from .links import ReceivingLink, SendingLink
from .management import Answer, read_management
from .performatives import Accepted, Attach, Transfer
from .publications import AMQP_VALUE, APPLICATION_PROPERTIES, PROPERTIES
from .values import Described, Int, ULong, Value

if TYPE_CHECKING:
    from .session import Session

_PROPERTIES_FIELDS = 13
_MESSAGE_ID = 0
_CORRELATION_ID = 5


class RequestLink(ReceivingLink):
    """Takes requests to the node `name`."""

    def __init__(self, session: Session, attach: Attach, name: str) -> None:
        super().__init__(session, attach)
        self._name = name

    def delivered(self, first: Transfer, payload: bytes) -> None:
        """Accept the request and send its response."""
        sections = _read_sections(payload)
        answer = self._answer(sections.get(APPLICATION_PROPERTIES), sections.get(AMQP_VALUE))
        self.settle(first, Accepted())
        response = self.session.response_link(self._name)
        if answer is not None and response is not None:
            properties = sections.get(PROPERTIES)
            message_id = properties[_MESSAGE_ID] if isinstance(properties, list) and properties else None
            response.respond(_write_response(message_id, answer))

    def _answer(self, arguments: Value, body: Value) -> Answer | None:
        backend = self.session.backend
        if self._name != CBS:
            return read_management(backend.hub, arguments)
        fault = backend.faults.strike(TOKEN)
        if fault.kind is FaultKind.TOKEN_IGNORED:
            return None
        if fault.kind is FaultKind.TOKEN_REFUSED:
            return Answer(401, "Unauthorized access. The token was refused because a fault was asked for.")
        if not isinstance(arguments, dict) or arguments.get("operation") != "put-token":
            return Answer(400, "The only operation is put-token.")
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
        backend.tokens.append(Token(str(arguments.get("type")), text))
        return Answer(202, "Accepted")


class ResponseLink(SendingLink):
    """Sends responses in order, those without credit later."""

    def __init__(self, session: Session, attach: Attach, name: str) -> None:
        super().__init__(session, attach)
        self.name = name
        self._waiting: deque[bytes] = deque()

    def respond(self, message: bytes) -> None:
        """Send a response as soon as there is credit."""
        if len(self._waiting) >= self.session.backend.limits.pending_responses_max:
            raise ProtocolError(RESOURCE_LIMIT, "too many responses wait for credit")
        self._waiting.append(message)
        self.pump()

    def pump(self) -> None:
        """Send what waits."""
        while self._waiting and self.credit > 0 and self.session.outgoing_window > 0:
            self.send_messages([self._waiting.popleft()])


def _read_sections(payload: bytes) -> dict[int, Value]:
    """Descriptor → value of each section. Raises `ProtocolError`."""
    sections: dict[int, Value] = {}
    position = 0
    try:
        while position < len(payload):
            section, position = decode_value(payload, position)
            if isinstance(section, Described) and isinstance(section.descriptor, int):
                sections[int(section.descriptor)] = section.value
    except DecodeError as error:
        raise ProtocolError(DECODE, str(error)) from error
    return sections


def _write_response(correlation_id: Value, answer: Answer) -> bytes:
    properties: list[Value] = [None] * _PROPERTIES_FIELDS
    properties[_CORRELATION_ID] = correlation_id
    application: dict[Value, Value] = {
        "status-code": Int(answer.status),
        "status-description": answer.description,
    }
    sections: tuple[tuple[int, Value], ...] = (
        (PROPERTIES, properties),
        (APPLICATION_PROPERTIES, application),
        (AMQP_VALUE, answer.body),
    )
    return b"".join(encode_value(Described(ULong(code), value)) for code, value in sections)
