"""Errors that end a command with one clear line.

FarshoreError
├── SettingsError       a setting is wrong: its name, what is wrong, what would be right
├── TopicError          a topic is not as it must be
├── BrokerAbsentError   no broker answers where one was to be
├── StalledError        a worker that does not get on ends itself
└── UplinkConfigError   the uplink cannot be used as it is configured
"""

from typing import Self

__all__ = [
    "BrokerAbsentError",
    "FarshoreError",
    "SettingsError",
    "StalledError",
    "TopicError",
    "UplinkConfigError",
]


class FarshoreError(Exception):
    """Something a user can put right; the message says how."""


class SettingsError(FarshoreError):
    """A setting is wrong."""


class TopicError(FarshoreError):
    """A topic is not as it must be."""


class BrokerAbsentError(FarshoreError):
    """No broker answers."""

    @classmethod
    def at(cls, bootstrap: str) -> Self:
        """The one sentence for it."""
        return cls(f"no Kafka broker answers at {bootstrap}")


class StalledError(FarshoreError):
    """The worker does not get on and ends itself, to be started again."""


class UplinkConfigError(FarshoreError):
    """The uplink cannot be used as configured."""
