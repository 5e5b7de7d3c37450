"""Severity: the highest level whose bound a score reaches."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farshore.schemas.manifest import Manifest
from farshore.streams.scoring.scorer import severity_of

LEVELS = [
    {"level": "low", "score_min": 1},
    {"level": "high", "score_min": 4},
    {"level": "critical", "score_min": 9},
]


@pytest.mark.parametrize(
    ("score", "level"),
    [(1.0, "low"), (3.999, "low"), (4.0, "high"), (8.999, "high"), (9.0, "critical"), (1e300, "critical")],
)
def test_a_score_has_the_highest_level_that_it_reaches(
    manifest_of: Callable[..., Manifest], score: float, level: str
) -> None:
    assert severity_of(manifest_of(severity=LEVELS), score) == level


def test_without_levels_every_anomaly_is_medium(manifest_of: Callable[..., Manifest]) -> None:
    assert severity_of(manifest_of(), 1.5) == "medium"
