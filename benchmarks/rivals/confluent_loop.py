"""A hand-written confluent-kafka (librdkafka) loop: consume, one run of the model a batch, produce; tuned."""

import os
import sys
import time
from pathlib import Path

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from job import BATCH_ROWS_MAX, COMMIT_SECONDS, Clock, task

from rivals.model import THRESHOLD, RivalModel

CONSUME_SECONDS_MAX = 0.02


def raise_failed(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def main() -> None:
    given, clock, done, committed = task(), Clock(), 0, time.monotonic()
    model = RivalModel(given.package)
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": f"{given.out_topic}.group",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,  # the default of 1 s stalls a consumer this fast
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": given.bootstrap,
            "acks": "all",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "on_delivery": raise_failed,
        }
    )
    consumer.subscribe([given.in_topic])
    while done < given.events:
        messages = consumer.consume(BATCH_ROWS_MAX, CONSUME_SECONDS_MAX)
        if not messages:
            continue
        clock.start()
        documents = [orjson.loads(message.value() or b"") for message in messages]
        for message, document, score in zip(messages, documents, model.scores(documents), strict=True):
            record = {
                "device": document["device"],
                "time": document["time"],
                "score": score,
                "anomaly": score > THRESHOLD,
                "model": model.label,
                "source": {
                    "topic": message.topic(),
                    "partition": message.partition(),
                    "offset": message.offset(),
                },
            }
            producer.produce(
                given.out_topic, orjson.dumps(record), message.key(), partition=message.partition() or 0
            )
        producer.poll(0)
        done += len(messages)
        if done >= given.events or time.monotonic() - committed >= COMMIT_SECONDS:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed = time.monotonic()
    clock.report(done)
    os._exit(0)


if __name__ == "__main__":
    main()
