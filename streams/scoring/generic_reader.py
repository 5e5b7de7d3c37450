"""The quick reader for every layout and type: decode to Python objects, then look at whole columns."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Final, cast

from ...schemas.manifest import Manifest
from .clean import CleanRows, clean_devices, clean_times
from .codec import decode
from .pointer import Pointer, siblings

__all__ = ["GenericReader"]

_NUMBERS: Final = {int, float}


class GenericReader:
    """Keeps numbers as the JSON gave them, so whole numbers stay exact."""

    def __init__(self, manifest: Manifest) -> None:
        event = manifest.event
        where = event.features
        self._feature_count = len(manifest.features)
        self._time_unit = event.time_unit
        self._by_name = isinstance(where, str)
        self._get_device = None if event.device is None else Pointer(event.device).getter()
        self._get_time = Pointer(event.time).getter()
        places = () if isinstance(where, str) else tuple(Pointer(text) for text in where)
        self._get_places = [place.getter() for place in places]
        # Features that are members of one object, the usual case, are read with one call an event.
        parent, names = (where, manifest.features) if isinstance(where, str) else siblings(places)
        self._get_container = None if parent is None else Pointer(parent).getter()
        self._get_row = _row_getter(names)

    def read(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> CleanRows | None:
        """See CleanReader."""
        try:
            documents = list(map(decode, values))
            if set(map(type, documents)) != {dict}:
                return None
            devices: list[object]
            if self._get_device is None:
                devices = [cast(bytes, key).decode() for key in keys]
            else:
                devices = list(map(self._get_device, documents))
            times = clean_times(list(map(self._get_time, documents)), self._time_unit)
            numbers = self._numbers(documents)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            return None
        if times is None or numbers is None or not clean_devices(devices):
            return None
        return CleanRows(cast(list[str], devices), times, numbers)

    def _numbers(self, documents: list[object]) -> list[float] | None:
        rows: Iterable[Iterable[object]]
        if self._get_container is None:
            rows = [[get(document) for get in self._get_places] for document in documents]
        else:
            containers = list(map(self._get_container, documents))
            kinds = set(map(type, containers))
            if kinds == {dict}:
                rows = map(self._get_row, containers)
            elif kinds == {list} and self._by_name:
                rows = cast(list[list[object]], containers)
                if set(map(len, cast(list[list[object]], containers))) != {self._feature_count}:
                    return None
            else:
                return None
        numbers = list(chain.from_iterable(rows))
        return cast(list[float], numbers) if set(map(type, numbers)) <= _NUMBERS else None


def _row_getter(features: tuple[str, ...]) -> Callable[[object], Sequence[object]]:
    if not features:
        return lambda _container: ()
    getter = cast(Callable[[object], Sequence[object]], itemgetter(*features))
    # Of one name, itemgetter gives the bare value.
    return getter if len(features) > 1 else lambda container: (getter(container),)
