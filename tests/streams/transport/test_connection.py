"""A connection that breaks just before a request is written: an error that is tried again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from farshore.streams.transport.connection import MendedConnection


@pytest.mark.broker
def test_a_request_to_a_connection_that_just_broke_is_an_error_of_kafkas_and_the_next_one_is_answered(
    broker: Any,
) -> None:
    """On uvloop it was a RuntimeError, which ended the worker."""

    async def run() -> None:
        client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
        await client.bootstrap()
        try:
            node = client.get_random_node()
            assert await client.ready(node)
            connection = next(conn for conn in client._conns.values() if conn.connected())
            assert isinstance(connection, MendedConnection)
            transport = connection._writer.transport
            transport.abort()
            while "closed=True" not in repr(transport):
                await asyncio.sleep(0)
            assert connection._writer is not None, "its reader has heard of it already"
            with pytest.raises(KafkaConnectionError, match="broken"):
                await connection.send(MetadataRequest([]))
            assert await client.ready(node)
            await client.send(node, MetadataRequest([]))
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
