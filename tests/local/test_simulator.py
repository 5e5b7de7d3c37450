"""The fleet: reproducible, labelled, and honest about how hard its faults are to see."""

import numpy as np
import pytest

from farshore.local.demo import fit_package
from farshore.local.simulator import SENSORS, Fleet, FleetSettings, hostile_values
from farshore.schemas.reasons import DeadLetterReason
from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.scoring.decoding import EventDecoder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return load_package(fit_package(tmp_path_factory.mktemp("fleet") / "package"))


def recall_and_precision(package: ModelPackage, fault_size: float) -> tuple[float, float]:
    block = Fleet(FleetSettings(seed=77, fault_size=fault_size)).block(600)
    alarms = package.scorer.score(block.readings.astype(np.float32)).scores > package.manifest.threshold
    right = (alarms & block.faulty).sum()
    return right / block.faulty.sum(), right / max(1, alarms.sum())


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    first, second, other = (Fleet(FleetSettings(seed)).block(20) for seed in (5, 5, 6))
    assert np.array_equal(first.readings, second.readings)
    assert not np.array_equal(first.readings, other.readings)


def test_a_block_goes_on_where_the_last_one_ended() -> None:
    whole = Fleet(FleetSettings(seed=3)).block(30)
    fleet = Fleet(FleetSettings(seed=3))
    parts = [fleet.block(10), fleet.block(20)]
    assert np.array_equal(whole.readings, np.concatenate([part.readings for part in parts]))
    assert [*parts[0].times_ms, *parts[1].times_ms] == list(whole.times_ms)


def test_faults_have_about_the_share_that_was_asked_for() -> None:
    block = Fleet(FleetSettings(seed=1, fault_share=0.02)).block(2_000)
    assert block.faulty.mean() == pytest.approx(0.02, rel=0.25)
    assert not Fleet(FleetSettings(seed=1, fault_share=0.0)).block(100).faulty.any()


def test_the_model_finds_faults_of_a_fleet_it_was_not_fitted_on(package: ModelPackage) -> None:
    recall, precision = recall_and_precision(package, fault_size=3.0)
    assert recall > 0.85
    assert precision > 0.9


def test_smaller_faults_are_found_less_often(package: ModelPackage) -> None:
    recalls = [recall_and_precision(package, size)[0] for size in (4.0, 2.0, 1.0, 0.5)]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[-1] < 0.5 < recalls[0]


def test_events_decode_to_the_readings_they_were_made_of(package: ModelPackage) -> None:
    block = Fleet(FleetSettings(seed=9)).block(5)
    keys, values = zip(*block.events(), strict=True)
    decoded = EventDecoder(package.manifest, event_bytes_max=10_000).decode(values, keys)
    assert not decoded.rejections
    assert decoded.devices == list(block.devices)
    assert np.array_equal(np.array(decoded.numbers).reshape(-1, len(SENSORS)), block.readings)


def test_every_hostile_value_is_refused_and_each_kind_has_its_reason(package: ModelPackage) -> None:
    values = hostile_values(seed=1, count=16)
    decoded = EventDecoder(package.manifest, event_bytes_max=10_000).decode(values, [b"k"] * len(values))
    assert len(decoded.rejections) == 16
    reasons = {rejection.reason for rejection in decoded.rejections}
    assert reasons == {
        DeadLetterReason.NOT_JSON,
        DeadLetterReason.NOT_OBJECT,
        DeadLetterReason.NOT_UTF8,
        DeadLetterReason.EMPTY,
        DeadLetterReason.BAD_TIME,
        DeadLetterReason.BAD_FEATURE,
        DeadLetterReason.MISSING_FEATURE,
        DeadLetterReason.OUT_OF_RANGE,
    }
