"""The compliance policy from its file and the site's secret, or one line that says what is wrong.

Guarantee: no error quotes the secret, nor anything of its file.
"""

import tomllib
from pathlib import Path
from typing import Final

from ..schemas.policy import DEFAULT_POLICY, PolicyDocument, PolicyError, parse_policy
from ..streams.delivery.policy import Policy
from .errors import SettingsError
from .settings import PREFIX, Settings

__all__ = ["SECRET_BYTES_MIN", "load_policy"]

SECRET_BYTES_MIN: Final = 16
_FILE_BYTES_MAX: Final = 8 * 1024 * 1024


def load_policy(settings: Settings, path: Path | None = None) -> Policy:
    """The policy of `path`, else of the settings, else the default; raises SettingsError."""
    path = path or settings.policy
    document = DEFAULT_POLICY if path is None else _read(path)
    return Policy(document, _secret(settings) if document.needs_secret else None)


def _read(path: Path) -> PolicyDocument:
    try:
        content = _content(path)
        return parse_policy(tomllib.loads(content.decode()))
    except OSError as error:
        raise SettingsError(f"{PREFIX}POLICY: {path} cannot be read: {error.strerror}") from None
    except PolicyError as error:
        raise SettingsError(f"{PREFIX}POLICY: {path} at {error}") from None
    except ValueError as error:  # TOML's and UTF-8's
        raise SettingsError(f"{PREFIX}POLICY: {path} is no TOML: {error}") from None


def _secret(settings: Settings) -> bytes:
    if settings.policy_secret is not None:
        name, secret = "POLICY_SECRET", settings.policy_secret.get_secret_value().encode()
    elif settings.policy_secret_file is not None:
        name = "POLICY_SECRET_FILE"
        try:
            secret = _content(settings.policy_secret_file).strip()
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}{name}: {settings.policy_secret_file} cannot be read: {error.strerror}"
            ) from None
    else:
        raise SettingsError(
            f"the policy hashes fields and there is no secret; give {PREFIX}POLICY_SECRET_FILE, a file of at "
            f"least {SECRET_BYTES_MIN} random bytes"
        )
    if len(secret) < SECRET_BYTES_MIN:
        raise SettingsError(f"{PREFIX}{name}: the secret is shorter than {SECRET_BYTES_MIN} bytes")
    return secret


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise OSError(0, f"larger than {_FILE_BYTES_MAX} bytes")
    return content
