"""What to leave out of one anomaly that is too large for the link all by itself.

The rule: first `readings`, then `contributions` as well. What is left says so in `cut`, a list of the
members that are gone. If that is still too large, the anomaly is set aside. Only members that the policy
lets leave are there to be cut; nothing is added but their names.
"""

from typing import Final

from ..scoring.codec import decode, encode

__all__ = ["CUT_IN_ORDER", "cut_down"]

CUT_IN_ORDER: Final = ("readings", "contributions")


def cut_down(body: bytes) -> tuple[bytes, str] | None:
    """One step: a smaller body, and what it now lacks in words; None when there is nothing left to cut."""
    members = decode(body)
    if not isinstance(members, dict):
        return None
    for name in CUT_IN_ORDER:
        if members.pop(name, None) is not None:
            gone = [*members.get("cut", ()), name]
            return encode(members | {"cut": gone}), "without " + " and ".join(gone)
    return None
