"""Checks every record of the store: schema, place, id, outcome, and that it still is what was delivered.

For each live anomaly: its members' types; that its key is its id and its partition its event's; where its
event is still in `events`, that the id follows from it; that a record which the bridge has passed has an
outcome; and where its batch left under the policy now in force, that the record still gives the body that
left.
Not told: damage that Kafka itself finds by its checksums ends the reading with Kafka's error.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jsonschema import Draft202012Validator

from ..schemas.manifest import load_schema
from ..schemas.records import AnomalyRecord, Outcome
from ..streams.delivery.policy import DamagedAnomalyError, Departing, Policy
from ..streams.delivery.record_types import CHECKS, check_resent
from ..streams.scoring.identity import anomaly_id
from .departures import body_digest
from .settings import Settings
from .store import Store, Stored, open_store
from .store_selection import decoded
from .topic_reader import TopicReader, open_reader

__all__ = ["Damage", "Verification", "verify_store"]

CHECKED_TOGETHER_MAX: Final = 20_000
"""Anomalies whose events are looked up in one reading of `events`."""

DAMAGES_KEPT_MAX: Final = 1_000

_REQUIRED: Final = frozenset(AnomalyRecord.__required_keys__)
_MEMBERS: Final = _REQUIRED | AnomalyRecord.__optional_keys__


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with one record."""

    id: str
    partition: int
    offset: int | None
    what: str


@dataclass(slots=True)
class Verification:
    """What was checked and found. `damaged` counts all, `damages` has the first DAMAGES_KEPT_MAX."""

    checked: int = 0
    ids_recomputed: int = 0
    bodies_recomputed: int = 0
    states: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    damages: list[Damage] = field(default_factory=list)

    def note(self, stored: Stored, what: str) -> None:
        """Count one damage."""
        self.damaged += 1
        if len(self.damages) < DAMAGES_KEPT_MAX:
            offset = None if stored.record is None else stored.record.offset
            self.damages.append(Damage(stored.key.decode(errors="replace"), stored.partition, offset, what))


async def verify_store(settings: Settings, policy: Policy) -> Verification:
    """Every live anomaly and every drop of the site, checked."""
    verification = Verification()
    async with open_store(settings) as store, open_reader(settings.kafka_bootstrap) as events:
        check = _Check(settings, policy, await _batches_under(policy, settings, events), verification)
        async for together in _together(store):
            for stored in together:
                check.record(stored)
            await _check_ids(together, settings.topics.events, events, verification)
        async for stored in store.dropped(lambda _: True):
            check.delivery(stored, None)
    return verification


async def _together(store: Store) -> AsyncIterator[list[Stored]]:
    """Anomalies of one partition, a bounded number at a time."""
    kept: list[Stored] = []
    async for stored in store.anomalies(lambda _: True):
        if kept and (kept[-1].partition != stored.partition or len(kept) >= CHECKED_TOGETHER_MAX):
            yield kept
            kept = []
        kept.append(stored)
    if kept:
        yield kept


async def _batches_under(policy: Policy, settings: Settings, reader: TopicReader) -> frozenset[str]:
    """The batches that left under this policy, some 100 bytes each: one batch is a few hundred anomalies."""
    found = set()
    async for records in reader.records(settings.topics.audit):
        for record in records:
            told = decoded(record.value)
            if told is not None and told.get("kind") == "departed" and told.get("policy") == policy.digest:
                found.add(str(told.get("batch")))
    return frozenset(found)


class _Check:
    def __init__(
        self, settings: Settings, policy: Policy, batches: frozenset[str], verification: Verification
    ) -> None:
        self._site = settings.site
        self._policy = policy
        self._batches = batches
        self._found = verification
        self._delivery_schema = Draft202012Validator(load_schema("delivery"))

    def record(self, stored: Stored) -> None:
        assert stored.record is not None
        anomaly = decoded(stored.record.value)
        if anomaly is None:
            self._found.note(stored, "the value is no JSON object")
        else:
            for what in _wrong_with(anomaly, stored):
                self._found.note(stored, what)
        self.delivery(stored, anomaly)

    def delivery(self, stored: Stored, anomaly: Mapping[str, Any] | None) -> None:
        found = self._found
        found.checked += 1
        found.states[stored.state] = found.states.get(stored.state, 0) + 1
        if stored.delivery is None:
            if stored.passed:
                found.note(stored, "the bridge has passed it and it has no outcome")
            return
        delivery = decoded(stored.delivery)
        if delivery is None or not self._delivery_schema.is_valid(delivery):
            found.note(stored, "its record in deliveries is damaged")
        elif delivery["id"].encode() != stored.key:
            found.note(stored, "its record in deliveries is another anomaly's")
        elif anomaly is not None and delivery["batch"] in self._batches and delivery["detail"] is None:
            self._body(stored, anomaly, delivery)

    def _body(self, stored: Stored, anomaly: Mapping[str, Any], delivery: Mapping[str, Any]) -> None:
        assert stored.record is not None
        try:
            verdict = self._policy.judge(stored.record.value)
        except DamagedAnomalyError:
            return  # told above
        if not isinstance(verdict, Departing) or delivery["outcome"] != Outcome.ACKNOWLEDGED:
            return
        fields = {name: value for name, value in verdict.fields.items() if name != "resent"}
        if delivery["resent"] is not None:
            fields["resent"] = delivery["resent"]
        self._found.bodies_recomputed += 1
        if body_digest(Departing(fields).body()) != delivery["digest"]:
            self._found.note(stored, "the record is not what was delivered")


def _wrong_with(anomaly: Mapping[str, Any], stored: Stored) -> list[str]:
    """What the schema and the place of the record say against it."""
    wrong = []
    missing, foreign = _REQUIRED - anomaly.keys(), anomaly.keys() - _MEMBERS
    if missing:
        wrong.append(f"it lacks {', '.join(sorted(missing))}")
    if foreign:
        wrong.append(f"it has members that are not an anomaly's: {', '.join(sorted(foreign))}"[:200])
    for name, check in CHECKS.items():
        if name in anomaly:
            try:
                check(anomaly[name])
            except DamagedAnomalyError as error:
                wrong.append(str(error))
    if "resent" in anomaly:
        try:
            check_resent(anomaly["resent"])
        except DamagedAnomalyError as error:
            wrong.append(str(error))
    if not wrong:
        if anomaly["id"].encode() != stored.key:
            wrong.append("its key is not its id")
        if anomaly["source"]["partition"] != stored.partition:
            wrong.append("it stands on another partition than its event")
    return wrong


async def _check_ids(
    together: list[Stored], events_topic: str, reader: TopicReader, found: Verification
) -> None:
    """Whether ids follow from the events, as far as these are still there."""
    wanted: dict[int, tuple[Stored, dict[str, Any]]] = {}
    for stored in together:
        assert stored.record is not None
        anomaly = decoded(stored.record.value)
        if anomaly is None or _wrong_with(anomaly, stored) or anomaly["source"]["topic"] != events_topic:
            continue
        wanted[anomaly["source"]["offset"]] = (stored, anomaly)
    if not wanted:
        return
    partition = together[0].partition
    start, end = (await reader.bounds(events_topic)).get(partition, (0, 0))
    span = (max(start, min(wanted)), min(end, max(wanted) + 1))
    async for records in reader.records_between(events_topic, {partition: span}):
        for record in records:
            hit = wanted.get(record.offset)
            if hit is None:
                continue
            stored, anomaly = hit
            if record.timestamp > anomaly["detected_at"]:
                continue  # a later event: the topic was made anew, and the anomaly's own event is gone
            found.ids_recomputed += 1
            expected = anomaly_id(
                anomaly["site"],
                events_topic,
                partition,
                record.offset,
                record.timestamp,
                record.value or b"",
            )
            if expected != anomaly["id"]:
                found.note(stored, "its id does not follow from its event")
