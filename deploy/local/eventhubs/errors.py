"""What can go wrong with a peer's bytes, and how far the damage reaches.

Exception
├── DecodeError      bytes that are no AMQP value; becomes a ProtocolError where a frame is read
├── ProtocolError    the connection is closed with this condition; the server and other connections go on
└── AttachRefused    one link is refused with this condition; its session goes on
"""

from __future__ import annotations

from .values import Symbol

BUSY = Symbol("com.microsoft:server-busy")
CONNECTION_FORCED = Symbol("amqp:connection:forced")
DECODE = Symbol("amqp:decode-error")
DETACH_FORCED = Symbol("amqp:link:detach-forced")
FRAMING = Symbol("amqp:connection:framing-error")
ILLEGAL_STATE = Symbol("amqp:illegal-state")
INTERNAL = Symbol("amqp:internal-error")
INVALID_FIELD = Symbol("amqp:invalid-field")
NOT_ALLOWED = Symbol("amqp:not-allowed")
NOT_FOUND = Symbol("amqp:not-found")
RESOURCE_LIMIT = Symbol("amqp:resource-limit-exceeded")
SIZE_EXCEEDED = Symbol("amqp:link:message-size-exceeded")
UNATTACHED_HANDLE = Symbol("amqp:session:unattached-handle")
UNAUTHORIZED = Symbol("amqp:unauthorized-access")


class DecodeError(ValueError):
    """The bytes are cut short, contradict themselves or use a constructor that AMQP 1.0 does not have."""


class ProtocolError(Exception):
    """The peer broke the protocol; the connection is closed with `condition`."""

    def __init__(self, condition: Symbol, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition = condition
        self.description = description


class AttachRefused(Exception):  # noqa: N818  # a refusal is an answer, not a failure
    """The link cannot exist; it is answered with a null attach and a detach carrying `condition`."""

    def __init__(self, condition: Symbol, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition = condition
        self.description = description
