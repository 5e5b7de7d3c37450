"""What is settled already, so that it is not sent again: by place in the store, and by id.

Guarantees:
  an anomaly that was noted is known again at its place, for as long as the place is not forgotten
  the newest `ids_max` ids are known at any place: a scorer that crashed writes the same anomaly once more
  memory: 2 bytes a place, in blocks that exist only where something is settled; `ids_max` ids
A place alone proves nothing, because a topic made anew uses its offsets again. So each keeps 16 bits of its
id's checksum: the first place that holds another id than noted empties the whole note, and what stands there
is sent. That this goes unseen has a chance of 1 in 65,535, once for each time that a topic is made anew.
"""

from array import array
from collections import OrderedDict
from typing import Final
from zlib import crc32

__all__ = ["IDS_MAX", "RecentIds", "SettledPlaces"]

IDS_MAX: Final = 50_000
_BLOCK: Final = 16_384


class SettledPlaces:
    """Offsets of one partition of `anomalies` whose delivery is settled."""

    def __init__(self) -> None:
        self._blocks: dict[int, array[int]] = {}

    def add(self, offset: int, key: bytes) -> None:
        """Note that the anomaly `key` at `offset` is settled."""
        number, place = divmod(offset, _BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = array("H", bytes(2 * _BLOCK))
        block[place] = _mark(key)

    def holds(self, offset: int, key: bytes) -> bool:
        """Whether the anomaly `key` at `offset` is settled."""
        number, place = divmod(offset, _BLOCK)
        block = self._blocks.get(number)
        noted = block[place] if block is not None else 0
        if noted == 0:
            return False
        if noted != _mark(key):
            self._blocks.clear()  # the note is of another topic of this name
            return False
        return True

    def forget_below(self, offset: int) -> None:
        """Everything below is committed and will not be read again; whole blocks of it are dropped."""
        for number in [number for number in self._blocks if (number + 1) * _BLOCK <= offset]:
            del self._blocks[number]

    @property
    def bytes_held(self) -> int:
        """Memory of the notes."""
        return len(self._blocks) * 2 * _BLOCK


class RecentIds:
    """The newest ids that were settled, whatever their partition."""

    def __init__(self, ids_max: int = IDS_MAX) -> None:
        self._ids_max = ids_max
        # A plain dict would search for its oldest entry past all that were removed.
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, key: bytes) -> None:
        """Note an id; beyond the limit the oldest goes."""
        self._ids[key] = None
        if len(self._ids) > self._ids_max:
            self._ids.popitem(last=False)


def _mark(key: bytes) -> int:
    """1 to 65,535; 0 is for places where nothing is noted."""
    return crc32(key) % 65_535 + 1
