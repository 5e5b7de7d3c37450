"""How many bytes topics take on the brokers' disks, as the brokers count them.

aiokafka has no call for it; the request is Kafka's DescribeLogDirs, version 1.
"""

from collections.abc import Collection, Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from .errors import BrokerAbsentError

__all__ = ["bytes_on_disk"]

_API_KEY = 35


class _Response(Response):
    API_KEY = _API_KEY
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("error_code", Int16),
                ("log_dir", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(
                                ("partition_index", Int32),
                                ("partition_size", Int64),
                                ("offset_lag", Int64),
                                ("is_future_key", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _RequestV1(RequestStruct):
    API_KEY = _API_KEY
    API_VERSION = 1
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _Request(Request[_RequestV1]):
    API_KEY = _API_KEY

    def __init__(self, topics: list[tuple[str, list[int]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_RequestV1]) -> _RequestV1:
        return request_struct_class(self._topics)


async def bytes_on_disk(
    admin: AIOKafkaAdminClient, partitions: Mapping[str, Collection[int]]
) -> dict[tuple[str, int], int]:
    """Bytes of each partition, the largest copy of it; raises BrokerAbsentError when a broker tells none."""
    request = _Request([(topic, list(numbers)) for topic, numbers in partitions.items()])
    cluster = await admin.describe_cluster()
    found: dict[tuple[str, int], int] = {}
    for broker in cluster["brokers"]:
        answer = await admin._client.send(broker["node_id"], request)  # noqa: SLF001  no public way for other requests
        for _, _, topics in answer.results:
            for topic, parts in topics:
                for number, size, _, is_future in parts:
                    if not is_future:
                        found[topic, number] = max(size, found.get((topic, number), 0))
    if not found and partitions:
        raise BrokerAbsentError("the brokers do not tell what the store takes on disk")
    return found
