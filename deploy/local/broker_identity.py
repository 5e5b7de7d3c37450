"""Who an embedded broker is over all its starts: its cluster id and the ports that clients know."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from .ports import free_ports

__all__ = ["Identity"]


@dataclass(frozen=True)
class Identity:
    """What stays the same over the starts of one broker; a port of 0 is yet to be chosen."""

    cluster_id: str
    port: int = 0
    controller_port: int = 0
    listener_ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def ask(
        cls,
        known: Self | None,
        port: int,
        controller_port: int,
        extra_listeners: Mapping[str, tuple[int, int]],
    ) -> Self:
        """The known identity with the ports that are asked for now."""
        before = known or cls(_new_cluster_id())
        return replace(
            before,
            port=port or before.port,
            controller_port=controller_port or before.controller_port,
            listener_ports={
                name: bind_port or before.listener_ports.get(name, 0)
                for name, (bind_port, _) in extra_listeners.items()
            },
        )

    def without_ports(self) -> Self:
        """The same cluster with every port to be chosen anew."""
        return replace(self, port=0, controller_port=0, listener_ports={})

    def with_free_ports(self) -> Self:
        """The same with every port of 0 replaced by a free one."""
        unchosen = list(self.ports()).count(0)
        free = iter(free_ports(unchosen, self.ports()))
        return replace(
            self,
            port=self.port or next(free),
            controller_port=self.controller_port or next(free),
            listener_ports={name: bound or next(free) for name, bound in self.listener_ports.items()},
        )

    def ports(self) -> tuple[int, ...]:
        """Every port that the broker listens on."""
        return (self.port, self.controller_port, *self.listener_ports.values())


def _new_cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # the storage tool would take it for an option
            return text
