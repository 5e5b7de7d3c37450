"""The one home of ONNX Runtime: a session, its tensors, and one run a batch.

Guarantees: rows in = rows out, or ModelOutputError; one intra-op thread by default, with which no row of
MatMul, Gemm, Conv or tree ensembles was seen to change with the batch it stands in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

__all__ = ["ModelLoadError", "ModelOutputError", "OnnxModel", "TensorInfo", "dtype_of"]

Tensor = npt.NDArray[np.generic]

_DTYPES: Final[Mapping[str, str]] = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_ONNX_RUNTIME_WARNINGS_OFF: Final = 3


class ModelLoadError(ValueError):
    """The file is no model that ONNX Runtime loads; the message is its own, on one line."""


class ModelOutputError(ValueError):
    """The model failed on a batch, or answered with another number of rows than it was given."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as the graph declares it; an axis is a size, a symbol's name, or None."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def dtype_of(onnx_type: str) -> str:
    """NumPy's name for ONNX's `tensor(...)`; the ONNX name itself where there is none."""
    return _DTYPES.get(onnx_type, onnx_type)


class OnnxModel:
    """A model, loaded from its file or its bytes."""

    def __init__(self, model: Path | bytes, *, intra_op_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ONNX_RUNTIME_WARNINGS_OFF
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else model.read_bytes(),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # noqa: BLE001  ONNX Runtime's exceptions share no base class
            raise ModelLoadError(_one_line(error)) from None
        self.inputs = tuple(_info(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_info(tensor) for tensor in self._session.get_outputs())

    def run(self, outputs: Sequence[str], name: str, tensor: Tensor) -> list[Tensor]:
        """The named outputs for `tensor`, whose first axis is the batch; raises ModelOutputError."""
        try:
            answers: list[Tensor] = self._session.run(list(outputs), {name: tensor})
        except Exception as error:  # noqa: BLE001  as above
            raise ModelOutputError(_one_line(error)) from None
        rows = tensor.shape[0]
        for output, answer in zip(outputs, answers, strict=True):
            if not isinstance(answer, np.ndarray) or answer.ndim == 0 or answer.shape[0] != rows:
                shape = list(answer.shape) if isinstance(answer, np.ndarray) else type(answer).__name__
                raise ModelOutputError(
                    f"output {output!r} has shape {shape} for {rows} rows; its first axis must be the batch"
                )
        return answers


def _info(tensor: onnxruntime.NodeArg) -> TensorInfo:
    return TensorInfo(tensor.name, dtype_of(tensor.type), tuple(tensor.shape))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
