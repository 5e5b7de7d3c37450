"""Severity levels: one ordered vocabulary for every model, so that sites and policies can compare them."""

from enum import StrEnum

__all__ = ["Severity"]


class Severity(StrEnum):
    """From the least to the most urgent."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position in the order, 0 for the least urgent."""
        return list(Severity).index(self)
