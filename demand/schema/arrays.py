"""Types of arrays that the whole house speaks of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
# Numbers of rows, from 0.
Rows = NDArray[np.int64]
