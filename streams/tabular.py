"""Rows of a table to events in the default layout: what a cell becomes. Files are read elsewhere.

A cell that is no number is passed on as it stands: the scorer makes a dead letter of it, with the reason, and
nothing is lost on the way. An empty cell becomes null, for the same reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from .scoring.codec import encode

__all__ = ["TIME_COLUMNS", "Columns", "RowError", "TableError", "choose_columns", "event_of", "time_ms_of"]

TIME_COLUMNS: Final = ("time", "timestamp", "datetime", "date", "ts")
"""Names that are taken for the time's column when none is given, compared without case."""

_WHOLE_NUMBERS: Final = range(-(2**63), 2**64)
"""What the codec writes as a whole number."""


class TableError(ValueError):
    """The table cannot be read as events; the message says what is missing."""


class RowError(TableError):
    """One row is no event; the message names the column."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things stand in a row. `device` is None when every row belongs to `device_name`."""

    time: int
    device: int | None
    device_name: str
    readings: tuple[tuple[int, str], ...]
    names: tuple[str, ...]


def choose_columns(
    header: Sequence[str], *, device: str | None, device_name: str, time: str | None
) -> Columns:
    """The columns of `header` in their parts; raises TableError naming what is missing."""
    names = [name.strip() for name in header]
    if time is None:
        found = [name for name in names if name.lower() in TIME_COLUMNS]
        if len(found) != 1:
            raise TableError(f"name the time's column with --time; the columns are {', '.join(names)}")
        time = found[0]
    for option, name in (("--time", time), ("--device", device)):
        if name is not None and name not in names:
            raise TableError(f"{option} {name}: no such column; the columns are {', '.join(names)}")
    time_at = names.index(time)
    device_at = None if device is None else names.index(device)
    readings = tuple((index, name) for index, name in enumerate(names) if index not in (time_at, device_at))
    if not readings:
        raise TableError("no columns are left for readings")
    return Columns(time_at, device_at, device_name, readings, tuple(names))


def event_of(row: Sequence[object], columns: Columns, zone: tzinfo) -> tuple[bytes, bytes]:
    """Key and value of the event for one row; raises RowError for one that makes none."""
    _check_length(row, columns.names)
    device = columns.device_name if columns.device is None else str(row[columns.device])
    event = {
        "device": device,
        "time": time_ms_of(row[columns.time], zone),
        "readings": {name: _number(row[index]) for index, name in columns.readings},
    }
    try:
        value = encode(event)
    except TypeError:
        raise _no_json(row, columns.names) from None
    return device.encode(), value


def _check_length(row: Sequence[object], names: Sequence[str]) -> None:
    if len(row) < len(names):
        raise RowError(
            f"column {names[len(row)]!r}: the row has {len(row)} cells, the header has {len(names)}"
        )
    # A delimiter at the end of each row is common; anything behind the last column is not.
    if any(cell not in ("", None) for cell in row[len(names) :]):
        raise RowError(
            f"column {names[-1]!r} is the last, and cells follow it: the row has {len(row)} cells, "
            f"the header has {len(names)}"
        )


def _no_json(row: Sequence[object], names: Sequence[str]) -> RowError:
    """The column whose value JSON has no word for."""
    for name, cell in zip(names, row, strict=False):
        try:
            encode(cell)
        except TypeError:
            return RowError(f"column {name!r} holds a {type(cell).__name__}, which JSON cannot hold")
    return RowError("a cell holds what JSON cannot hold")


def time_ms_of(cell: object, zone: tzinfo) -> object:
    """Epoch milliseconds; a time without offset is in `zone`. What is no time is passed on as it stands."""
    if isinstance(cell, datetime):
        return _epoch_ms(cell, zone)
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    try:
        number = int(text)
    except ValueError:
        pass
    else:
        return number if number in _WHOLE_NUMBERS else text
    try:
        return _epoch_ms(datetime.fromisoformat(text), zone)
    except ValueError:
        return text


def _epoch_ms(moment: datetime, zone: tzinfo) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _number(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text:
        return None
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # A whole number beyond 64 bits is a number all the same.
        return number if kind is float or number in _WHOLE_NUMBERS else float(text)
    return text
