"""The environment of a site's workers: the caller's, with this site's own settings on top."""

import os
from collections.abc import Mapping

from ..agents.settings import PREFIX

__all__ = ["worker_environment"]


def worker_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with the FARSHORE_ settings in `settings` (names without prefix) replaced."""
    return dict(os.environ) | {PREFIX + name.upper(): value for name, value in settings.items()}
