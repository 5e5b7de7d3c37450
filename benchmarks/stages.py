"""Each stage of the hot path by itself, in memory, so that a regression names its stage.

    python benchmarks/stages.py [--events N] [--rounds N] [--baseline stages.json] [--out FOLDER]

The stages are the worker's own code on the job's events; only the network is missing. Beside them stands a
naive loop over the same events (decode, features, model, encode; no Kafka), which tells how fast the machine
was. With `--baseline`, an earlier run's JSON, a stage that takes over a quarter more in units of that loop is
named and the exit code is 1.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import orjson
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from job import BATCH_ROWS_MAX, THRESHOLD, EventSpec, make_package
from report import OUT, Json, document, machine_sentence, spread, table, write
from rivals.model import RivalModel

from farshore.agents import outbox
from farshore.streams.packages.batchsize import measure_batch_size
from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.scoring.clean import CleanReader, CleanRows
from farshore.streams.scoring.decoding import EventDecoder
from farshore.streams.scoring.native_reader import NativeReader
from farshore.streams.scoring.pipeline import Columns, EventPipeline
from farshore.streams.scoring.typed_reader import TypedReader
from farshore.streams.transport import record_reader
from farshore.streams.transport.batch import PartitionBatch

RECORD_BATCH_BYTES = 256 * 1024
RECORD_BATCH_EVENTS = 800
EVENT_BYTES_MAX = 1 << 20
SLOWER_BY = 1.25
NAIVE = "naive loop"
WHOLE = "whole pipeline"
STAGES = {
    "fetch": "record batches, checksum included, to columns",
    "decode": "JSON to an array, or without the extension to typed objects; all of it checked",
    "features": "the matrix, ranges checked; without the extension devices, times and types too",
    "inference": "the model, the score's rule, the threshold",
    "encode": "scored records to JSON",
    "outcomes": "anomaly records and the rest of the pipeline",
    "append": "results to record batches, checksum included",
}


class Stages:
    """Prepared inputs of every stage, for one batch of events."""

    def __init__(self, package: ModelPackage, count: int) -> None:
        self._package = package
        events = list(EventSpec().events(count))
        self._raw = _record_batches(events)
        columns = self._fetch()
        self.batch = PartitionBatch(
            "events", 0, count, columns[0], columns[1], columns[2], columns[3], len(b"".join(self._raw))
        )
        self._values = [value for _, value in events]
        rows_max = measure_batch_size(package.manifest, package.scorer.score, rows_max=BATCH_ROWS_MAX).rows
        self.pipeline = EventPipeline(
            package, site="benchmark", event_bytes_max=EVENT_BYTES_MAX, batch_rows_max=rows_max
        )
        self._decoder = EventDecoder(package.manifest, event_bytes_max=EVENT_BYTES_MAX)
        self._decoded = self._decoder.decode(self._values, self.batch.keys)
        self._judged = self.pipeline._judge.judge(self.batch, self._decoded)
        self._scored: Columns = self.pipeline.process(self.batch, now_ms=0).scored
        self._rival = RivalModel(package.folder)

    def runs(self) -> dict[str, Callable[[], object]]:
        """What is timed, by name; `outcomes`, and `features` unless it is here, are differences of these."""
        alone: dict[str, Callable[[], object]] = {}
        reader = self._decoder._readers[0]
        if isinstance(reader, NativeReader):
            after = copy.copy(self._decoder)
            after._readers = [_Replay(reader, self._values, after.part_rows)]
            alone["features"] = lambda: after.decode(self._values, self.batch.keys)
        return alone | {
            NAIVE: self._naive,
            "fetch": self._fetch,
            "decode": self._decode,
            "decode and features": lambda: self._decoder.decode(self._values, self.batch.keys),
            "inference": lambda: self.pipeline._judge.judge(self.batch, self._decoded),
            "encode": self._encode,
            WHOLE: lambda: self.pipeline.process(self.batch, now_ms=0),
            "append": self._append,
        }

    def _fetch(self) -> tuple[list[int], list[int], list[bytes | None], list[bytes | None]]:
        offsets: list[int] = []
        times: list[int] = []
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        for raw in self._raw:
            memory = MemoryRecords(raw)
            while memory.has_next():
                batch = memory.next_batch()
                assert batch.validate_crc()
                columns = record_reader._columns_of(batch, 0)
                offsets += columns.offsets
                times += columns.timestamps_ms
                keys += columns.keys
                values += columns.values
        return offsets, times, keys, values

    def _decode(self) -> None:
        reader = self._decoder._readers[0]
        for start in range(0, len(self._values), self._decoder.part_rows):
            part = self._values[start : start + self._decoder.part_rows]
            if isinstance(reader, NativeReader):
                assert reader.read(part, []) is not None
            else:
                assert isinstance(reader, TypedReader)
                joined = b"\n".join(part)
                assert joined.isascii()
                reader._forms[0].decoder.decode_lines(joined)

    def _encode(self) -> object:
        return self.pipeline._encoder.encode(
            "events",
            0,
            devices=self._decoded.devices,
            times_ms=self._decoded.times_ms,
            scores=self._judged.scores.scores,
            alarms=self._judged.alarms,
            offsets=self.batch.offsets,
        )

    def _append(self) -> None:
        taken, columns = 0, self._scored
        while taken < len(columns):
            builder = BatchBuilder(RECORD_BATCH_BYTES, 0, is_transactional=False)
            taken = outbox.append_columns(builder, columns, taken, len(columns))
            builder.close()
            builder._build()

    def _naive(self) -> None:
        for start in range(0, len(self._values), BATCH_ROWS_MAX):
            documents = [orjson.loads(value) for value in self._values[start : start + BATCH_ROWS_MAX]]
            for document_, score in zip(documents, self._rival.scores(documents), strict=True):
                orjson.dumps(
                    {
                        "device": document_["device"],
                        "time": document_["time"],
                        "score": score,
                        "anomaly": score > THRESHOLD,
                    }
                )


class _Replay:
    """Gives what another reader read of the same parts, so that only what follows takes time."""

    def __init__(self, reader: CleanReader, values: Sequence[bytes], rows: int) -> None:
        parts = [values[start : start + rows] for start in range(0, len(values), rows)]
        self._read = cycle([reader.read(part, []) for part in parts])

    def read(self, _values: Sequence[bytes], _keys: Sequence[bytes | None]) -> CleanRows | None:
        return next(self._read)


def _record_batches(events: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """As a producer writes them: some hundreds of events a batch."""
    found: list[bytes] = []
    for start in range(0, len(events), RECORD_BATCH_EVENTS):
        builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, RECORD_BATCH_BYTES)
        for number, (key, value) in enumerate(events[start : start + RECORD_BATCH_EVENTS]):
            builder.append(number, 1_690_000_000_000 + number, key, value, [])
        found.append(_with_base(bytes(builder.build()), start))
    return found


def _with_base(batch: bytes, offset: int) -> bytes:
    """The broker writes the base offset into the first eight bytes; the checksum does not cover them."""
    return offset.to_bytes(8, "big") + batch[8:]


def measure(package: ModelPackage, count: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds an event for each stage and round. Stages take turns within a round."""
    stages = Stages(package, count)
    runs = stages.runs()
    timed: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            timed[name].append((time.process_time() - begin) / count * 1e6)
    if "features" not in timed:
        timed["features"] = _differences(timed["decode and features"], timed["decode"])
    inside = [
        sum(parts)
        for parts in zip(timed["decode and features"], timed["inference"], timed["encode"], strict=True)
    ]
    timed["outcomes"] = _differences(timed[WHOLE], inside)
    return timed


def _differences(whole: Sequence[float], part: Sequence[float]) -> list[float]:
    return [max(0.0, first - second) for first, second in zip(whole, part, strict=True)]


def markdown(found: Json) -> str:
    """The stages in the order in which an event passes them."""
    results = found["results"]
    total = sum(statistics.median(results[name]) for name in STAGES)
    rows = [
        [name, what, spread(results[name], 3), f"{statistics.median(results[name]) / total:.0%}"]
        for name, what in STAGES.items()
    ]
    rows.append(["**sum**", "", f"{total:.3f}", ""])
    naive = statistics.median(results[NAIVE])
    rows.append(
        [NAIVE, "orjson, NumPy, the model, orjson; no checks, no Kafka", spread(results[NAIVE], 3), ""]
    )
    asked = found["parameters"]
    return (
        table(["stage", "what", "µs an event", "share"], rows)
        + f"\nMedians (least–most) of {asked['rounds']} rounds over {asked['events']:,} events in memory, "
        f"CPU time. The sum is {total / naive:.2f} of the naive loop. {machine_sentence(found['machine'])}\n"
    )


def slower(found: Json, baseline: Json) -> list[str]:
    """Stages that take clearly longer than in the baseline, each in units of its run's naive loop."""
    return [
        f"{name}: {now:.2f} of the naive loop, {before:.2f} in the baseline"
        for name in STAGES
        for now, before in [(_relative(found, name), _relative(baseline, name))]
        if now > before * SLOWER_BY and now - before > 0.01
    ]


def _relative(found: Json, name: str) -> float:
    return float(min(found["results"][name]) / min(found["results"][NAIVE]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=8_000, help="in one batch")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        package = load_package(make_package(Path(scratch) / "package"))
        timed = measure(package, options.events, options.rounds)
    found = document("stages", {"events": options.events, "rounds": options.rounds}, timed)
    write(found, markdown, options.out)
    if options.baseline is not None:
        worse = slower(found, json.loads(options.baseline.read_text()))
        if worse:
            raise SystemExit("slower than the baseline:\n" + "\n".join(worse))


if __name__ == "__main__":
    main()
