"""A package folder to a model that may be run, or one clear reason why not.

Guarantee: what `load_package` returns has passed, in this order: the manifest's schema, the digest of the
model file, the names, types and shapes of the tensors, and the trial run.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...schemas.manifest import InputSpec, Manifest, ManifestError, parse_manifest
from ..scoring.inference import ModelLoadError, OnnxModel, TensorInfo
from ..scoring.scorer import BatchScorer
from .trial import TrialReport, run_trial

__all__ = ["MANIFEST_NAME", "MODEL_NAME", "ModelPackage", "PackageError", "load_package"]

MANIFEST_NAME: Final = "manifest.json"
MODEL_NAME: Final = "model.onnx"

_MANIFEST_BYTES_MAX: Final = 8 * 1024 * 1024


class PackageError(ValueError):
    """The package is refused. The message says what does not fit and what would."""


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package that has passed every check."""

    folder: Path
    manifest: Manifest
    model: OnnxModel
    scorer: BatchScorer
    trial: TrialReport

    @property
    def digest(self) -> str:
        """The model's digest as anomaly records carry it."""
        return f"sha256:{self.manifest.model_sha256}"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a package folder; raises PackageError."""
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise PackageError(
            f"{folder} is no folder; a model package is one with {MODEL_NAME} and {MANIFEST_NAME}"
        )
    try:
        if path.stat().st_size > _MANIFEST_BYTES_MAX:
            raise PackageError(f"{path} is larger than {_MANIFEST_BYTES_MAX} bytes")
        return parse_manifest(json.loads(path.read_text("utf-8"), parse_constant=_no_json))
    except FileNotFoundError:
        raise PackageError(f"{path} is missing") from None
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from None
    except (ManifestError, RecursionError) as error:
        raise PackageError(str(error)) from None
    except ValueError as error:
        raise PackageError(f"{path} is no JSON: {error}") from None


def _no_json(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def load_package(folder: Path, *, intra_op_threads: int = 1) -> ModelPackage:
    """The package in `folder`, checked and warm; raises PackageError."""
    manifest = read_manifest(folder)
    path = folder / MODEL_NAME
    try:
        # Read once: the bytes that are run are the bytes whose digest was taken.
        model_bytes = path.read_bytes()
    except FileNotFoundError:
        raise PackageError(f"{path} is missing") from None
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from None
    digest = hashlib.sha256(model_bytes).hexdigest()
    if digest != manifest.model_sha256:
        raise PackageError(
            f"{path} has SHA-256 {digest}, but {MANIFEST_NAME} says {manifest.model_sha256}: "
            "the file was changed or damaged"
        )
    try:
        model = OnnxModel(model_bytes, intra_op_threads=intra_op_threads)
    except ModelLoadError as error:
        raise PackageError(f"{path} does not load: {error}") from None
    _check_tensors(manifest, model)
    scorer = BatchScorer(manifest, model)
    trial = run_trial(manifest, scorer)
    if trial.refusal is not None:
        raise PackageError(f"{manifest.label} fails its trial run: {trial.refusal}")
    return ModelPackage(folder, manifest, model, scorer, trial)


def _check_tensors(manifest: Manifest, model: OnnxModel) -> None:
    _check_input(manifest.input, model)
    _named(manifest.score.output, model.outputs, "output", "$.score.output")
    if manifest.contributions_output is not None:
        _named(manifest.contributions_output, model.outputs, "output", "$.contributions.output")


def _check_input(wanted: InputSpec, model: OnnxModel) -> None:
    tensor = _named(wanted.name, model.inputs, "input", "$.input.name")
    others = [other.name for other in model.inputs if other.name != wanted.name]
    if others:
        raise PackageError(f"the model needs further inputs {others}; only models with one input can be fed")
    if tensor.dtype != wanted.dtype:
        raise PackageError(f"input {tensor.name!r} takes {tensor.dtype}, $.input.dtype says {wanted.dtype}")
    axes = tensor.shape
    if not axes:
        return  # so ONNX Runtime shows a shape that the graph leaves open; the trial run decides
    if len(axes) != 1 + len(wanted.shape) or any(
        isinstance(axis, int) and axis != size for axis, size in zip(axes[1:], wanted.shape, strict=True)
    ):
        raise PackageError(
            f"input {tensor.name!r} has shape {_axes(axes)}, "
            f"$.input.shape says {_axes(('batch', *wanted.shape))}"
        )
    if isinstance(axes[0], int):
        raise PackageError(
            f"input {tensor.name!r} has shape {_axes(axes)}: its first axis is fixed to {axes[0]} "
            "and must be the batch, of any size"
        )


def _named(name: str, tensors: tuple[TensorInfo, ...], kind: str, place: str) -> TensorInfo:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    known = ", ".join(repr(tensor.name) for tensor in tensors)
    raise PackageError(f"{place} says {name!r}, but the model's {kind}s are {known}")


def _axes(axes: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in axes) + "]"
