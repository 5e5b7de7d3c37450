"""Faust's message with a whole batch as its value."""

from faust.types import ConsumerMessage

from .ledger import Range

__all__ = ["BatchMessage"]


class BatchMessage(ConsumerMessage):
    """One partition's batch on its way through Faust; `offset` is the last record's."""

    __slots__ = ("handed", "settled")

    handed: Range
    settled: bool
