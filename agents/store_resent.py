"""Finds out which keys stand in a log once more, marked as sent again on request.

A topic cannot be asked for a key. What is new in it is read once for the mark, and only the stretches in
which marks stand are read again when somebody asks. Guarantees: every marked record between the place that is
asked for and the present end is found; memory is some stretches a partition, however many were sent again.
"""

from typing import Any, Final

from aiokafka import ConsumerRecord

from ..streams.delivery.spans import Spans
from .topic_reader import TopicReader

__all__ = ["RESENT_MARK", "ResentMarks"]

RESENT_MARK: Final = b'"resent":"'
"""Stands in the bytes of an anomaly that is to be sent again, and of its outcome, as farshore writes them."""


class ResentMarks:
    """Those of one topic, for one who asks with places that only grow."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._spans: dict[int, Spans] = {}
        self._read_to: dict[int, int] = {}

    async def forget_marked(
        self, reader: TopicReader, partition: int, start: int, found: dict[bytes, Any]
    ) -> None:
        """Take out of `found` what stands marked at `start` or above.

        Raises BrokerAbsentError or KafkaError.
        """
        log_start, end = (await reader.bounds(self._topic)).get(partition, (0, 0))
        spans = await self._follow(reader, partition, max(start, log_start), end)
        for span in spans:
            async for records in reader.records_between(self._topic, {partition: span}):
                for record in filter(_is_marked, records):
                    found.pop(record.key, None)

    async def _follow(
        self, reader: TopicReader, partition: int, start: int, end: int
    ) -> list[tuple[int, int]]:
        """Read on to `end`; where marks stand from `start` on."""
        if self._read_to.get(partition, 0) > end:
            # The log was made anew, or lost its end.
            self._spans.pop(partition, None)
            self._read_to.pop(partition)
        spans = self._spans.setdefault(partition, Spans())
        spans.forget_below(start)
        rest = (max(start, self._read_to.get(partition, 0)), end)
        async for records in reader.records_between(self._topic, {partition: rest}):
            marked = [record.offset for record in records if _is_marked(record)]
            if marked:
                spans.add(marked[0], marked[-1] + 1)
            self._read_to[partition] = records[-1].offset + 1
        return list(spans)


def _is_marked(record: ConsumerRecord) -> bool:
    return record.value is not None and RESENT_MARK in record.value
