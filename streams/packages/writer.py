"""A model and its manifest to a package folder, whole or not at all.

Guarantees:
  the folder holds exactly model.onnx and manifest.json, on disk, and the manifest carries the model's digest
  a reader never sees half a package: it is written under another name beside its place and then renamed
  a refused manifest leaves nothing behind, and a folder that is no package is never replaced

Not guaranteed: that the model fits its manifest. `load_package` finds that out.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ...schemas.manifest import ManifestError, parse_manifest
from .loader import MANIFEST_NAME, MODEL_NAME, PackageError

__all__ = ["write_package"]


def write_package(folder: Path, model_bytes: bytes, manifest: Mapping[str, object]) -> Path:
    """Write the package and return `folder`; raises PackageError.

    `manifest` is the content of manifest.json; `format` and `model_sha256` are set here, whatever it says of
    them. A package that stands at `folder` is replaced: for an instant between two renames none stands there.
    """
    document = {
        **manifest,
        "format": 1,
        "model_sha256": hashlib.sha256(model_bytes).hexdigest(),
    }
    try:
        parse_manifest(document)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ManifestError as error:
        raise PackageError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise PackageError(f"{MANIFEST_NAME} cannot be written as JSON: {error}") from None
    _refuse_foreign_folder(folder)
    try:
        _place(folder, {MODEL_NAME: model_bytes, MANIFEST_NAME: text.encode() + b"\n"})
    except OSError as error:
        raise PackageError(f"{folder} cannot be written: {error.strerror}") from None
    return folder


def _refuse_foreign_folder(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PackageError(f"{folder} is a file; a model package is a folder")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in (MODEL_NAME, MANIFEST_NAME))
    if foreign:
        raise PackageError(
            f"{folder} holds {foreign[0]!r}, which belongs to no model package; name a new or an empty folder"
        )


def _place(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        fresh, stale = Path(scratch, "fresh"), Path(scratch, "stale")
        fresh.mkdir()
        for name, content in files.items():
            _write_through(fresh / name, content)
        _sync_folder(fresh)
        if folder.exists():
            folder.rename(stale)
        try:
            fresh.rename(folder)
        except OSError:
            if stale.exists():
                stale.rename(folder)
            raise
        shutil.rmtree(stale, ignore_errors=True)
    _sync_folder(folder.parent)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # A rename is on disk only once the folder that names it is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
