"""What the transport may hold and how it reads, as one value."""

from dataclasses import dataclass

__all__ = ["TransportSettings"]


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Limits and choices of one worker's consumer and producer.

    Invariants:
      bytes handed out and not settled <= outstanding_bytes_max + one poll
      batches handed out and not settled <= outstanding_batches_max + one poll
      records handed out and not settled <= outstanding_rows_max + one poll
      one poll < poll_bytes_max + one record batch, and < poll_rows_max rows + one record batch
      an assignment reads at most rewind_offsets of each partition once more, below its commit
    """

    poll_rows_max: int
    poll_bytes_max: int
    outstanding_bytes_max: int
    isolation_level: str = "read_committed"
    fetch_bytes_max: int = 16 * 1024 * 1024
    partition_fetch_bytes_max: int = 2 * 1024 * 1024
    outstanding_batches_max: int = 256
    outstanding_rows_max: int = 65_536
    revoke_wait_seconds_max: float = 3.0
    stop_wait_seconds_max: float = 2.0
    commit_seconds_max: float = 10.0
    last_commit_seconds_max: float = 1.5
    request_bytes_max: int = 32 * 1024 * 1024
    producer_batch_bytes: int = 256 * 1024
    life_check_seconds: float = 30.0
    rewind_offsets: int = 0
    transaction_seconds_max: float = 60.0
