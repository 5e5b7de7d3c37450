"""How an attempt on the uplink can end, other than well.

UplinkLostError         the link failed; whether the batch arrived is not known
└── UplinkSilentError   no answer came in time: the line is away, or slower than the batch is large
UplinkBusyError         the service is there and too busy; not stored
UplinkTooLargeError     the service takes no batch of this size; not stored
"""

__all__ = ["UplinkBusyError", "UplinkLostError", "UplinkSilentError", "UplinkTooLargeError"]


class UplinkLostError(Exception):
    """The link failed, or did not answer in time; whether the batch arrived is not known."""


class UplinkSilentError(UplinkLostError):
    """No answer came in time."""


class UplinkBusyError(Exception):
    """The service is there and too busy; the batch was not stored."""


class UplinkTooLargeError(Exception):
    """The service takes no batch of this size; it was not stored."""
