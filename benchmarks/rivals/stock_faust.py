"""Stock Faust, as its documentation has it: one event at a time, one send a result."""

import os
import sys
import tempfile
from pathlib import Path

import faust
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from job import COMMIT_SECONDS, Clock, task

from rivals.model import THRESHOLD, RivalModel

given, clock, done = task(), Clock(), 0
model = RivalModel(given.package)
app = faust.App(
    f"{given.out_topic}.group",
    broker=f"kafka://{given.bootstrap}",
    broker_commit_interval=COMMIT_SECONDS,
    consumer_auto_offset_reset="earliest",
    datadir=tempfile.mkdtemp(),
    producer_acks=-1,
    producer_linger=0.005,
    producer_max_batch_size=1 << 18,
    stream_buffer_maxsize=16_384,
    topic_allow_declare=False,
    topic_disable_leader=True,
)
events = app.topic(given.in_topic, key_serializer="raw", value_serializer="raw")
results = app.topic(given.out_topic, key_serializer="raw", value_serializer="raw")


@app.agent(events)  # type: ignore[untyped-decorator]  # Faust comes untyped
async def score(stream: faust.StreamT) -> None:
    global done
    async for event in stream.events():
        clock.start()
        document = orjson.loads(event.value)
        (value,) = model.scores([document])
        message = event.message
        result = {
            "device": document["device"],
            "time": document["time"],
            "score": value,
            "anomaly": value > THRESHOLD,
            "model": model.label,
            "source": {"topic": message.topic, "partition": message.partition, "offset": message.offset},
        }
        await results.send(key=event.key, value=orjson.dumps(result))
        done += 1
        if done >= given.events:
            await app.producer.flush()
            clock.report(done)
            os._exit(0)


if __name__ == "__main__":
    sys.argv[1:] = ["--loop", "uvloop", "worker", "--without-web", "--loglevel", "warn"]
    app.main()
