from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

POWER_MIN: int
POWER_MAX: int

class RowReader:
    def __new__(
        cls,
        layout: dict[str | None, object],
        feature_count: int,
        device_from_key: bool,
        time_times: int,
        time_by: int,
        time_limit_ms: int,
        powers: bytes,
        /,
    ) -> RowReader: ...
    def read(
        self,
        values: Sequence[bytes],
        keys: Sequence[bytes | None],
        numbers: npt.NDArray[np.float64],
        /,
    ) -> tuple[list[str], list[int]] | None: ...
