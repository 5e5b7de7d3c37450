"""A hand-written aiokafka loop: getmany, one run of the model a batch, create_batch and send_batch."""

import asyncio
import os
import sys
import time
from pathlib import Path

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from job import BATCH_ROWS_MAX, COMMIT_SECONDS, Clock, task

from rivals.model import THRESHOLD, RivalModel


async def main() -> None:
    given, clock, done, committed = task(), Clock(), 0, time.monotonic()
    model = RivalModel(given.package)
    consumer = AIOKafkaConsumer(
        given.in_topic,
        bootstrap_servers=given.bootstrap,
        group_id=f"{given.out_topic}.group",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 << 20,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=given.bootstrap, acks="all", linger_ms=0, max_batch_size=1 << 18
    )
    await consumer.start()
    await producer.start()
    pending: list[asyncio.Future[object]] = []
    while done < given.events:
        for part, messages in (await consumer.getmany(timeout_ms=1000, max_records=BATCH_ROWS_MAX)).items():
            clock.start()
            documents = [orjson.loads(message.value) for message in messages]
            batch = producer.create_batch()
            for message, document, value in zip(messages, documents, model.scores(documents), strict=True):
                record = orjson.dumps(
                    {
                        "device": document["device"],
                        "time": document["time"],
                        "score": value,
                        "anomaly": value > THRESHOLD,
                        "model": model.label,
                        "source": {
                            "topic": message.topic,
                            "partition": message.partition,
                            "offset": message.offset,
                        },
                    }
                )
                if batch.append(timestamp=None, key=message.key, value=record) is None:
                    pending.append(
                        await producer.send_batch(batch, given.out_topic, partition=part.partition)
                    )
                    batch = producer.create_batch()
                    batch.append(timestamp=None, key=message.key, value=record)
            pending.append(await producer.send_batch(batch, given.out_topic, partition=part.partition))
            done += len(messages)
        if done >= given.events or time.monotonic() - committed >= COMMIT_SECONDS:
            await asyncio.gather(*pending)
            pending.clear()
            await consumer.commit()
            committed = time.monotonic()
    clock.report(done)
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(main())
