"""What the tests of the reader in C share."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from farshore.schemas.manifest import Manifest
from farshore.streams.scoring.clean import CleanReader, CleanRows
from farshore.streams.scoring.native_reader import is_built, native_reader

from ...compiler import can_build

__all__ = ["GOOD", "SEED", "bits", "needs_extension", "one", "reader_of"]

GOOD = (
    b'{"device":"pump-1","time":1690000000123,"readings":{"temperature":20.25,"pressure":3,"vibration":-0.5}}'
)
SEED = 20_240_917

# Where it could be built and is not, these fail; tests/packaging/test_extension.py says so by name.
needs_extension = pytest.mark.skipif(not is_built() and not can_build(), reason="no compiler")


def reader_of(manifest: Manifest) -> CleanReader:
    reader = native_reader(manifest)
    assert reader is not None
    return reader


def bits(numbers: Sequence[float]) -> list[bytes]:
    return [struct.pack("d", number) for number in numbers]


def one(reader: CleanReader, event: bytes, key: bytes | None = None) -> CleanRows | None:
    return reader.read([event], [key])
