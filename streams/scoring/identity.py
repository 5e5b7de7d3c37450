"""The anomaly id: opaque, and a pure function of where the event stands and what it holds.

Scoring an event again gives the same id, so it overwrites the same record of the compacted topic. A topic
made anew repeats positions but not record timestamps and values, so it never reuses an id.
"""

from hashlib import blake2b

__all__ = ["anomaly_id"]

_DIGEST_BYTES = 16


def anomaly_id(site: str, topic: str, partition: int, offset: int, timestamp_ms: int, value: bytes) -> str:
    """32 hexadecimal digits (128 bits of BLAKE2b) for the event at this position of this site."""
    position = f"{site}\0{topic}\0{partition}\0{offset}\0{timestamp_ms}\0".encode()
    value_digest = blake2b(value, digest_size=32).digest()
    return blake2b(position + value_digest, digest_size=_DIGEST_BYTES).hexdigest()
