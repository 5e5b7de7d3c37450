"""Results that fit their topics before they go into a transaction (exactly-once mode).

A refusal takes the whole transaction with it, so what the broker says of a size is learnt here and used when
the events are read again. One lesson an attempt, by the largest batch that a topic was sent; then, as in
`oversize.py`: halves, compressed, of a dead letter less and less of its value.
Guarantee: each refusal makes what is sent smaller, so the attempts end: with a commit or an OversizeError.
"""

from collections.abc import Iterator, Sequence

from aiokafka.producer.message_accumulator import BatchBuilder

from ..streams.scoring.pipeline import Columns
from ..streams.transport.transactional_producer import TransactionalProducer
from .outbox import append_columns, append_runs
from .oversize import CutNotice, Runs, cuts, halves, oversize_error

__all__ = ["Fitting"]


class Fitting:
    """What was learnt of topics' sizes by one input partition; it outlives the partition's lanes."""

    def __init__(self) -> None:
        self._plain_bytes_max: dict[str, int] = {}
        self._alone_bytes_max: dict[str, int] = {}
        self._largest: dict[str, tuple[int, bool]] = {}
        self._cut = CutNotice()

    def begin(self) -> None:
        """A transaction begins."""
        self._largest.clear()

    def committed(self) -> None:
        """It is through: a record refused later is measured by itself, in case its topic was changed."""
        self._alone_bytes_max.clear()

    def learn(self, topic: str) -> bool:
        """`topic` refused a size; False when nothing was sent there from which to learn."""
        if topic not in self._largest:
            return False
        size_bytes, alone = self._largest[topic]
        if alone:
            self._alone_bytes_max[topic] = size_bytes - 1
        else:
            self._plain_bytes_max[topic] = size_bytes // 2
        return True

    def batches(
        self, producer: TransactionalProducer, topic: str, parcels: Sequence[Columns]
    ) -> Iterator[BatchBuilder]:
        """Kafka batches as full as can be, made one at a time; raises OversizeError."""
        builder, runs = producer.new_batch(), Runs()
        for columns in parcels:
            start = 0
            while start < len(columns):
                stop = append_columns(builder, columns, start, len(columns))
                if stop > start:
                    runs.append((columns, start, stop))
                if stop < len(columns):
                    yield from self._fitted(producer, topic, builder, runs)
                    builder, runs = producer.new_batch(), Runs()
                start = stop
        if runs:
            yield from self._fitted(producer, topic, builder, runs)

    def _fitted(
        self, producer: TransactionalProducer, topic: str, builder: BatchBuilder, runs: Runs
    ) -> Iterator[BatchBuilder]:
        plain_max = min(producer.batch_bytes, self._plain_bytes_max.get(topic, producer.batch_bytes))
        if builder.size() <= plain_max:
            self._note_sent(topic, builder.size(), alone=False)
            yield builder
            return
        parts = halves(runs)
        if parts is None:
            columns, index, _ = runs[0]
            yield self._alone(producer, topic, columns, index)
            return
        for part in parts:
            yield from self._fitted(producer, topic, _built(producer, part), part)

    def _alone(
        self, producer: TransactionalProducer, topic: str, columns: Columns, index: int
    ) -> BatchBuilder:
        """One record, compressed, cut if that was refused."""
        whole: Runs = [(columns, index, index + 1)]
        size_bytes = _compressed_bytes(producer, whole)
        alone_max = self._alone_bytes_max.get(topic, size_bytes)
        if size_bytes <= alone_max:
            self._note_sent(topic, size_bytes, alone=True)
            return _built(producer, whole, compressed=True)
        for cut in cuts(columns, index):
            size_bytes = _compressed_bytes(producer, [(cut, 0, 1)])
            if size_bytes <= alone_max:
                self._note_sent(topic, size_bytes, alone=True)
                self._cut.tell(topic)
                return _built(producer, [(cut, 0, 1)], compressed=True)
        raise oversize_error(topic, columns, index)

    def _note_sent(self, topic: str, size_bytes: int, *, alone: bool) -> None:
        self._largest[topic] = max(self._largest.get(topic, (0, False)), (size_bytes, alone))


def _built(producer: TransactionalProducer, runs: Runs, *, compressed: bool = False) -> BatchBuilder:
    return append_runs(producer.new_batch(compressed=compressed), runs)


def _compressed_bytes(producer: TransactionalProducer, runs: Runs) -> int:
    """On a batch of its own: one that is built takes no transactional id any more."""
    return len(_built(producer, runs, compressed=True)._build())  # noqa: SLF001  its size is known only so
