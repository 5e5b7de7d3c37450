"""CSV and Parquet files as rows, a bounded number at a time."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..streams.tabular import TableError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["open_table"]

_SNIFFED_CHARACTERS: Final = 65_536
_PARQUET_ROWS: Final = 8_192

Rows = Iterator[Sequence[object]]


@contextmanager
def open_table(path: Path, delimiter: str | None) -> Iterator[tuple[Sequence[str], Rows]]:
    """Header and rows of a file, CSV or (by its suffix) Parquet; raises TableError, also between rows."""
    opened = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path, delimiter)
    try:
        with opened as (header, rows):
            yield header, _told(path, rows)
    except FileNotFoundError:
        raise TableError(f"{path} is missing") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is no CSV: {error}") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None


def _told(path: Path, rows: Rows) -> Rows:
    try:
        yield from rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is no CSV: {error}") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None


@contextmanager
def _csv(path: Path, delimiter: str | None) -> Iterator[tuple[Sequence[str], Rows]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if delimiter is None:
            delimiter = _sniff(file.read(_SNIFFED_CHARACTERS))
            file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, None)
        if header is None:
            raise TableError(f"{path} is empty")
        yield header, (row for row in reader if row)


def _sniff(sample: str) -> str:
    """The delimiter that the header has most of; a comma when it has none."""
    header = sample.partition("\n")[0]
    return max(",;\t|", key=header.count)


@contextmanager
def _parquet(path: Path) -> Iterator[tuple[Sequence[str], Rows]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise TableError("Parquet files need the extra [parquet]: pip install 'farshore[parquet]'") from None
    try:
        with ParquetFile(path) as file:
            yield list(file.schema_arrow.names), _parquet_rows(file)
    except ArrowInvalid as error:
        raise TableError(f"{path} is no Parquet file: {error}") from None


def _parquet_rows(file: "ParquetFile") -> Rows:
    for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
        columns = [column.to_pylist() for column in batch.columns]
        yield from zip(*columns, strict=True)
