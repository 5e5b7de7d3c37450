"""Frozen dataclasses as AMQP composites: described lists with a numeric descriptor.

A composite's annotations are its wire types: `UInt | None` is an optional uint, a field with neither `None`
nor a default is mandatory, `Value` takes anything. Written in full: trailing nulls stay, because the SDK
indexes fields without looking at the list's length.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, ClassVar, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from . import values
from .encode import encode_value
from .errors import DECODE, INVALID_FIELD, ProtocolError
from .values import Described, ULong, Value


@dataclass(frozen=True)
class Composite:
    """A described list whose descriptor is `code`."""

    code: ClassVar[int]


AnyComposite = TypeVar("AnyComposite", bound=Composite)


def to_value(composite: Composite) -> Described:
    """The composite, and those inside it, as an AMQP value."""
    items: list[Value] = []
    for field in fields(composite):
        item = getattr(composite, field.name)
        items.append(to_value(item) if isinstance(item, Composite) else item)
    return Described(ULong(composite.code), items)


def encode_composite(composite: Composite) -> bytes:
    """The composite's bytes, ready to be a frame's body."""
    return encode_value(to_value(composite))


def from_value(kind: type[AnyComposite], value: Value) -> AnyComposite:
    """The composite that `value` describes.

    Raises `ProtocolError` for a wrong descriptor, a wrong type or a missing field.
    """
    if not isinstance(value, Described) or value.descriptor != kind.code or not isinstance(value.value, list):
        raise ProtocolError(DECODE, f"expected a {kind.__name__}")
    shape = _shape(cast("Hashable", kind))
    items = value.value
    if len(items) > len(shape):
        raise ProtocolError(DECODE, f"{kind.__name__} has {len(shape)} fields, not {len(items)}")
    arguments: list[object] = []
    for index, (name, wire, default) in enumerate(shape):
        item = items[index] if index < len(items) else None
        if item is None:
            if default is MISSING:
                raise ProtocolError(INVALID_FIELD, f"{kind.__name__} needs {name}")
            arguments.append(default)
        elif wire is None or isinstance(item, wire):
            arguments.append(item)
        elif issubclass(wire, Composite):
            arguments.append(from_value(wire, item))
        else:
            raise ProtocolError(DECODE, f"{name} of {kind.__name__} is no {wire.__name__}")
    # Each subclass has its own constructor, which `type[AnyComposite]` does not show.
    construct: Callable[..., AnyComposite] = kind
    return construct(*arguments)


@cache
def _shape(kind: Any) -> tuple[tuple[str, type | None, Any], ...]:
    """Name, wire type (`None`: any) and default of each field, in the order of the list."""
    # `Value` names types that the composites' own modules do not import.
    hints = get_type_hints(kind, localns=vars(values))
    shape = []
    for field in fields(kind):
        hint = hints[field.name]
        may_be_null = field.default is MISSING and type(None) in get_args(hint)
        shape.append((field.name, _wire(hint), None if may_be_null else field.default))
    return tuple(shape)


def _wire(hint: Any) -> type | None:
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return _wire(options[0]) if len(options) == 1 else None
    if get_origin(hint) is not None:
        return _wire(get_origin(hint))
    return hint if isinstance(hint, type) else None
