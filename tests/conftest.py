"""Fixtures for all tests: one broker a session, started when the first test asks for it, and names of its own
a test."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings

from farshore.local.broker import bootstrap_or_embedded

# A busy machine is no failure; what is slow shows in pytest's own durations.
settings.register_profile("farshore", deadline=None, print_blob=True)
settings.load_profile("farshore")


@dataclass(frozen=True)
class SharedBroker:
    """The session's broker: the embedded one, or the one that FARSHORE_KAFKA_BOOTSTRAP names."""

    bootstrap: str


@pytest.fixture(scope="session")
def broker() -> Iterator[SharedBroker]:
    """A real Kafka shared by all tests of the session; a test keeps to topics and groups under its own
    prefix."""
    with bootstrap_or_embedded(say=print) as bootstrap:
        yield SharedBroker(bootstrap)


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A prefix for topic and group names that no other test has, legal in Kafka: `test-name.1a2b3c4d.`"""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    return f"{name}.{uuid.uuid4().hex[:8]}."
