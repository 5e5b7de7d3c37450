"""The metrics every worker serves. Grafana relies on these names."""

import math
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = [
    "ALARMS_RESTED",
    "ANOMALIES",
    "ANOMALIES_WAITING",
    "BATCH_ROWS",
    "CONSUMER_LAG_BYTES",
    "CONSUMER_LAG_READ_TIMESTAMP",
    "CONSUMER_LAG_RECORDS",
    "CONSUMER_LAG_SECONDS",
    "DELIVERIES",
    "DEVICE_MEMORY_BYTES",
    "EVENTS",
    "EVENTS_REBUILT",
    "GAPS",
    "RECORDS_LOST",
    "REPEATS_AVOIDED",
    "RUN_ROWS_MAX",
    "SCORING_SECONDS",
    "SENT_AHEAD",
    "SENT_BESIDE",
    "SILENT_SECONDS",
    "STORE_BYTES",
    "STORE_HIGH_WATER_BYTES",
    "STORE_KEPT_TIMESTAMP",
    "STORE_QUOTA_BYTES",
    "STORE_RETIRED",
    "STORE_TIME_TO_DRAIN",
    "STORE_TIME_TO_FULL",
    "TRANSACTIONS",
    "UPLINK_ATTEMPTS",
    "UPLINK_BYTES",
    "UPLINK_SEND_SECONDS",
    "UPLINK_STATE",
    "UPLINK_WAITED",
    "WINDOW_COLD",
    "WORKER_REGISTRY",
    "serve_as_bridge",
    "serve_as_scorer",
]

WORKER_REGISTRY: Final[CollectorRegistry] = REGISTRY

EVENTS: Final = Counter(
    "farshore_events", "Events by outcome: scored, or the dead letter's reason.", ["outcome"]
)
ANOMALIES: Final = Counter("farshore_anomalies", "Anomalies written to the store, by severity.", ["severity"])
GAPS: Final = Counter(
    "farshore_gaps",
    "Times that reading went on behind records it never read, by topic and by the reason told on `audit`.",
    ["topic", "reason"],
)
RECORDS_LOST: Final = Counter(
    "farshore_records_lost",
    "Records in those gaps, where their number is known.",
    ["topic", "reason"],
)
BATCH_ROWS: Final = Histogram(
    "farshore_batch_rows",
    "Events that were scored together.",
    buckets=(1, 4, 16, 64, 256, 1_024, 4_096, 16_384),
)
RUN_ROWS_MAX: Final = Gauge(
    "farshore_model_run_rows_max", "Rows of one run of the model at most, as measured at the start."
)
SCORING_SECONDS: Final = Histogram(
    "farshore_scoring_seconds",
    "Seconds to decode, score and encode what was scored together.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
)
WINDOW_COLD: Final = Counter(
    "farshore_window_cold",
    "Scored events whose device had fewer readings within the horizon than the window asks for.",
)
ALARMS_RESTED: Final = Counter(
    "farshore_alarms_rested",
    "Scored events above the threshold that are no anomalies because their device rested.",
)
EVENTS_REBUILT: Final = Counter(
    "farshore_events_rebuilt",
    "Events below the commit that were read again to rebuild what is kept of devices.",
)
DEVICE_MEMORY_BYTES: Final = Gauge(
    "farshore_device_memory_bytes", "Arrays of readings and scores kept of devices, their names left out."
)
TRANSACTIONS: Final = Counter(
    "farshore_transactions", "Exactly-once: transactions by result, committed or failed.", ["result"]
)
CONSUMER_LAG_RECORDS: Final = Gauge(
    "farshore_consumer_lag_records", "Records between commit and end.", ["group", "topic", "partition"]
)
CONSUMER_LAG_SECONDS: Final = Gauge(
    "farshore_consumer_lag_seconds",
    "Age of the oldest record that is not committed; 0 when there is none.",
    ["group", "topic", "partition"],
)
CONSUMER_LAG_BYTES: Final = Gauge(
    "farshore_consumer_lag_bytes",
    "Estimate: records behind times their mean size.",
    ["group", "topic", "partition"],
)
CONSUMER_LAG_READ_TIMESTAMP: Final = Gauge(
    "farshore_consumer_lag_read_timestamp_seconds",
    "When this worker last read the lag, in epoch seconds: older values only stand still.",
)
SILENT_SECONDS: Final = Gauge(
    "farshore_silent_seconds",
    "How long records have waited for this worker without anything being read, settled, tried or committed.",
)
UPLINK_STATE: Final = Gauge(
    "farshore_uplink_state", "The uplink's breaker: 0 offline, 1 probing, 2 throttled, 3 online."
)
UPLINK_ATTEMPTS: Final = Counter("farshore_uplink_attempts", "Sends to Event Hubs by result.", ["result"])
UPLINK_BYTES: Final = Counter("farshore_uplink_bytes", "Bytes of batches that Event Hubs acknowledged.")
UPLINK_SEND_SECONDS: Final = Histogram(
    "farshore_uplink_send_seconds",
    "Seconds from sending a batch to its acknowledgement.",
    buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
UPLINK_WAITED: Final = Counter(
    "farshore_uplink_waited_seconds", "Seconds that lanes waited for leave to send, by reason.", ["reason"]
)
SENT_AHEAD: Final = Counter(
    "farshore_sent_ahead", "Anomalies looked at ahead of the rest for their severity.", ["severity"]
)
SENT_BESIDE: Final = Counter(
    "farshore_sent_beside", "Anomalies looked at beside a backlog, since they came while it drained."
)
REPEATS_AVOIDED: Final = Counter(
    "farshore_repeats_avoided", "Anomalies read once more that were settled already and not sent again."
)
DELIVERIES: Final = Counter(
    "farshore_deliveries", "Anomalies settled by the bridge, by outcome.", ["outcome"]
)
ANOMALIES_WAITING: Final = Gauge(
    "farshore_anomalies_waiting",
    "Anomalies in the store without an outcome: an upper bound, since overwritten records and tombstones "
    "behind the bridge's commit count. NaN until the lag is read.",
)
ANOMALIES_WAITING.set(math.nan)  # 0 would say that everything is delivered
STORE_BYTES: Final = Gauge("farshore_store_bytes", "Bytes of anomalies and deliveries on the broker's disk.")
STORE_QUOTA_BYTES: Final = Gauge("farshore_store_quota_bytes", "The store's quota; +Inf without one.")
STORE_HIGH_WATER_BYTES: Final = Gauge(
    "farshore_store_high_water_bytes", "Where the quota's policy acts; +Inf without a quota."
)
STORE_TIME_TO_FULL: Final = Gauge(
    "farshore_store_time_to_full_seconds", "(quota − bytes) / net growth; +Inf when not growing."
)
STORE_TIME_TO_DRAIN: Final = Gauge(
    "farshore_store_time_to_drain_seconds", "Until nothing waits at the present pace; +Inf when not draining."
)
STORE_RETIRED: Final = Counter(
    "farshore_store_retired", "Anomalies that have left the store after their retention."
)
STORE_KEPT_TIMESTAMP: Final = Gauge(
    "farshore_store_kept_timestamp_seconds", "When the keeper last finished a look, in epoch seconds."
)
for _unknown in (STORE_BYTES, STORE_TIME_TO_DRAIN):
    _unknown.set(math.nan)  # until it is measured

_OF_THE_BRIDGE: Final = (
    UPLINK_STATE,
    UPLINK_ATTEMPTS,
    UPLINK_BYTES,
    UPLINK_SEND_SECONDS,
    UPLINK_WAITED,
    SENT_AHEAD,
    SENT_BESIDE,
    REPEATS_AVOIDED,
    DELIVERIES,
    ANOMALIES_WAITING,
    STORE_BYTES,
    STORE_QUOTA_BYTES,
    STORE_HIGH_WATER_BYTES,
    STORE_TIME_TO_FULL,
    STORE_TIME_TO_DRAIN,
    STORE_RETIRED,
    STORE_KEPT_TIMESTAMP,
)
_OF_THE_SCORER: Final = (
    ALARMS_RESTED,
    ANOMALIES,
    BATCH_ROWS,
    DEVICE_MEMORY_BYTES,
    EVENTS,
    EVENTS_REBUILT,
    RUN_ROWS_MAX,
    SCORING_SECONDS,
    TRANSACTIONS,
    WINDOW_COLD,
)


def serve_as_scorer() -> None:
    """Leave out what only a bridge knows: an uplink state of 0 from a scorer would be a false alarm."""
    for collector in _OF_THE_BRIDGE:
        WORKER_REGISTRY.unregister(collector)


def serve_as_bridge() -> None:
    """Leave out what only a scorer counts."""
    for collector in _OF_THE_SCORER:
        WORKER_REGISTRY.unregister(collector)
