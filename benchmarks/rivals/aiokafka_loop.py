"""A hand-written aiokafka loop: getmany, one run of the model a batch, create_batch and send_batch."""

import asyncio
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from job import BATCH_ROWS_MAX, COMMIT_SECONDS, FEATURES, THRESHOLD, Clock, task


async def main() -> None:
    given, clock, done, committed = task(), Clock(), 0, time.monotonic()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        given.package / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
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
            rows = np.array(
                [[document["readings"][name] for name in FEATURES] for document in documents], np.float32
            )
            (answer,) = session.run(None, {"x": rows})
            batch = producer.create_batch()
            for message, document, value in zip(
                messages, documents, np.square(answer - rows).mean(axis=1).tolist(), strict=True
            ):
                record = orjson.dumps(
                    {
                        "device": document["device"],
                        "time": document["time"],
                        "score": value,
                        "anomaly": value > THRESHOLD,
                        "model": "autoencoder@1",
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


uvloop.run(main())
