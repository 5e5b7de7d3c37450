"""JSON in and out: the one home of orjson.

Decoding follows RFC 8259 with two documented choices: of duplicate keys the last counts, and NaN and
Infinity are no JSON. Encoding writes a non-finite number as null, so numbers are checked beforehand.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

__all__ = ["NotJsonError", "decode", "encode", "encode_numbers"]

NotJsonError: Final = orjson.JSONDecodeError
"""What `decode` raises; a subclass of ValueError."""

decode: Final[Callable[[bytes | str], object]] = orjson.loads
"""Bytes of one JSON text to Python objects; raises NotJsonError."""


def encode_numbers(array: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> bytes:
    """A one-dimensional array as a JSON array, each number as `encode` would write it."""
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


encode: Final[Callable[[object], bytes]] = orjson.dumps
"""A record to compact UTF-8 JSON."""
