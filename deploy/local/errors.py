"""What can go wrong with the broker on this machine; each message is one whole sentence for the user.

LocalBrokerError (a FarshoreError)
├── JavaMissingError      no Java of the needed version
├── KafkaMissingError     Kafka's files are neither cached nor to be had
└── BrokerFailedError     the broker ended early, did not answer in time, or was used wrongly
"""

from ..agents.errors import FarshoreError

__all__ = ["BrokerFailedError", "JavaMissingError", "KafkaMissingError", "LocalBrokerError"]


class LocalBrokerError(FarshoreError):
    """The embedded broker cannot serve; the message says why and what would help."""


class JavaMissingError(LocalBrokerError):
    """No Java run-time of the needed version was found."""


class KafkaMissingError(LocalBrokerError):
    """A file of Apache Kafka is not cached and could not be downloaded or did not match its digest."""


class BrokerFailedError(LocalBrokerError):
    """The broker could not be started or a Kafka tool failed; the message ends with the log's last lines."""
