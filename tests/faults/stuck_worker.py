"""A worker that gets stuck for good: `python stuck_worker.py HOW`.

`waits` and `blocks`: its agent is held by its first batch. `reads-nothing`: its consumer never polls.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import faust
from faust.types import TP

from farshore.agents.faust_app import WorkerApp, make_app
from farshore.agents.settings import load_settings
from farshore.agents.worker import run_worker
from farshore.streams.transport.consumer import BatchConsumer
from farshore.streams.transport.message import BatchMessage
from farshore.streams.transport.schema import BatchSchema


async def poll_nothing(_consumer: BatchConsumer, timeout: float) -> AsyncIterator[tuple[TP, BatchMessage]]:
    await asyncio.sleep(timeout)
    for nothing in ():
        yield nothing


def make_stuck(how: str) -> WorkerApp:
    settings = load_settings()
    if how == "reads-nothing":
        BatchConsumer.getmany = poll_nothing  # type: ignore[method-assign]
    app = make_app(settings, group=settings.scorer_group, outputs=())

    @app.agent(app.topic(settings.topic_events, schema=BatchSchema()), name="held")
    async def agent(stream: faust.StreamT) -> None:
        async for _ in stream.noack().events():
            if how == "blocks":
                time.sleep(3_600)  # as a computation without end
            await asyncio.Event().wait()  # as an answer that never comes

    return app


if __name__ == "__main__":
    sys.exit(run_worker(load_settings(), lambda: make_stuck(sys.argv[1])))
