"""What the demo ends with: the receipt, the ids compared with the hub's, precision and recall."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient

from ..agents.receipts import SiteCount
from ..agents.settings import Settings
from ..agents.topic_reader import open_reader
from ..schemas.receipt import Receipt
from ..schemas.records import Outcome
from ..streams.scoring.codec import decode

__all__ = ["DemoReport", "Detection", "HubCount", "judge_detection", "read_hub", "report_of"]

READ_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class HubCount:
    """What the hub holds: how often each anomaly id arrived."""

    arrivals: Mapping[str, int]

    @property
    def duplicates(self) -> int:
        """Events beyond the first of each id."""
        return sum(self.arrivals.values()) - len(self.arrivals)


@dataclass(frozen=True, slots=True)
class Detection:
    """Of the events judged anomalous, and of the injected faults' events, how many are both."""

    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything the demo says at its end."""

    receipt: Receipt
    hub: HubCount
    detection: Detection
    events_per_second: float
    ids_agree: bool
    store_is_complete: bool
    scored_twice: int
    seconds: float

    @property
    def adds_up(self) -> bool:
        """Both sums, every id acknowledged at the hub and no other, every scored anomaly in the store."""
        return (
            self.receipt.adds_up
            and self.ids_agree
            and self.store_is_complete
            and self.receipt.unread == 0
            and self.receipt.waiting == 0
        )

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            **self.receipt.as_dict(),
            "duplicates_at_hub": self.hub.duplicates,
            "scored_twice": self.scored_twice,
            "events_per_second": round(self.events_per_second),
            "precision": round(self.detection.precision, 4),
            "recall": round(self.detection.recall, 4),
            "ids_agree": self.ids_agree,
            "store_is_complete": self.store_is_complete,
            "adds_up": self.adds_up,
            "seconds": round(self.seconds, 1),
        }


def report_of(
    count: SiteCount, hub: HubCount, detection: Detection, *, events_per_second: float, seconds: float
) -> DemoReport:
    """Put together what was counted."""
    acknowledged = {
        identity for identity, outcome in count.outcomes.items() if outcome is Outcome.ACKNOWLEDGED
    }
    return DemoReport(
        receipt=count.receipt(),
        hub=hub,
        detection=detection,
        events_per_second=events_per_second,
        ids_agree=acknowledged == hub.arrivals.keys(),
        store_is_complete=count.store_is_complete,
        scored_twice=count.scored_records - len(count.scored),
        seconds=seconds,
    )


async def judge_detection(settings: Settings, faulty: Set[tuple[str, int]]) -> Detection:
    """Compare the scored records with the labels: `faulty` holds device and epoch ms of each faulty row."""
    alarms: set[tuple[str, int]] = set()
    async with open_reader(settings.kafka_bootstrap) as reader:
        async for records in reader.records(settings.topic_scored):
            for record in records:
                value = decode(record.value)
                assert isinstance(value, dict)
                if value["anomaly"]:
                    alarms.add((value["device"], value["time"]))
    right = len(alarms & faulty)
    return Detection(right / max(1, len(alarms)), right / max(1, len(faulty)))


async def read_hub(connection_string: str, expected: int) -> HubCount:
    """Read every event back with the SDK, until `expected` have come or `READ_SECONDS_MAX` have passed."""
    arrivals: Counter[str] = Counter()
    complete = asyncio.Event()

    async def take(_context: object, events: list[EventData]) -> None:
        for event in events:
            value = decode(event.body_as_str())
            assert isinstance(value, dict)
            arrivals[value["id"]] += 1
        if arrivals.total() >= expected:
            complete.set()

    client = EventHubConsumerClient.from_connection_string(connection_string, "$Default")
    receiving = client.receive_batch(
        take, starting_position="-1", starting_position_inclusive=True, max_batch_size=500, max_wait_time=1
    )
    task = asyncio.create_task(receiving)
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            await complete.wait()
    except TimeoutError:
        pass  # the comparison of the ids will show what is missing
    finally:
        task.cancel()
        await client.close()
    return HubCount(arrivals)
