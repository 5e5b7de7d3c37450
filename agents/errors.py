"""Errors that end a command with one clear line.

FarshoreError
├── SettingsError       a setting is wrong: its name, what is wrong, what would be right
├── TopicError          a topic is not as it must be
├── BrokerAbsentError   no broker answers where one was to be; it may come
├── BrokerRefusalError  a broker answers, and refuses what a start needs
├── StalledError        a worker that does not get on ends itself
└── UplinkConfigError   the uplink cannot be used as it is configured
"""

from typing import Final, Self

from aiokafka.errors import KafkaError

__all__ = [
    "BrokerAbsentError",
    "BrokerRefusalError",
    "FarshoreError",
    "SettingsError",
    "StalledError",
    "TopicError",
    "UplinkConfigError",
    "first_line",
    "is_passing",
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


class BrokerRefusalError(FarshoreError):
    """A broker answers and refuses."""


class UplinkConfigError(FarshoreError):
    """The uplink cannot be used as configured."""


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: a broker that is away, starting or changing, not one that refuses."""
    if isinstance(error, KafkaError):
        return bool(error.retriable) or type(error).__name__ in _PASSING
    return isinstance(error, BrokerAbsentError | OSError)


# aiokafka marks these as final, but a broker that comes back or has started takes the same request.
_PASSING: Final = frozenset(
    {
        "KafkaTimeoutError",
        "KafkaConnectionError",
        "RequestTimedOutError",
    }
)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
