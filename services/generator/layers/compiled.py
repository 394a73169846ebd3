"""What the compiled loops (numba) of layers have in common; all their floats are float32."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import njit, types
from numpy.typing import NDArray

Loop = TypeVar("Loop", bound=Callable[..., Any])
Floats = NDArray[np.float32]
Words = NDArray[np.int32]

ROW = types.Array(types.float32, 1, "C")
ROWS = types.Array(types.float32, 2, "C")
FLOAT = types.float32

_LOG2_E = np.float32(1.4426950408889634)
_LEAST_POWER = np.float32(-126)
_MOST_POWER = np.float32(126)
_BIAS = np.int32(127)  # of a float's exponent
_MANTISSA = np.int32(23)  # bits


def _sources() -> str:
    """A digest of all that loops are made of."""
    package = Path(__file__).parents[1]
    files = [package / "openmp.py", *package.glob("layers/*.py"), *package.glob("engine/*.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]


# What is compiled is kept for the next start. By itself numba would find out that the file of a
# loop has changed, but not that of one that it calls.
_folder = numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__"  # type: ignore[attr-defined]
numba.config.CACHE_DIR = str(Path(_folder) / f"loops-{_sources()}")  # type: ignore[attr-defined]

OPTIONS: Any = {"cache": True, "fastmath": True, "error_model": "numpy"}
"""How loops are compiled."""


def compiled(loop: Loop) -> Loop:
    """For loops that other loops call."""
    return cast("Loop", njit(**OPTIONS)(loop))


def compiled_for(*arguments: types.Type) -> Callable[[Loop], Loop]:
    """For loops that Python calls: they are compiled when their module is imported."""
    return cast("Callable[[Loop], Loop]", njit(arguments, **OPTIONS))


@compiled
def exponentials(numbers: Floats, bits: Words) -> None:
    """Change numbers into e to their power, from about 1e-38 to 1e38.

    Exact to 2e-7 of it for each unit of the power, as what float32 keeps of that is.

    2 ** whole * 2 ** fraction, the second by a polynomial: many at a time, where a call of the
    library's for each would take longer than all else.

    Args:
        numbers: (n,), changed.
        bits: (n,), changed; what is in it does not matter.
    """
    powers = bits.view(np.float32)
    for place in range(len(numbers)):
        power = min(max(numbers[place] * _LOG2_E, _LEAST_POWER), _MOST_POWER)
        whole = np.int32(np.floor(power))
        rest = power - np.float32(whole)
        value = np.float32(1.8775767e-3)
        value = value * rest + np.float32(8.9893397e-3)
        value = value * rest + np.float32(5.5826318e-2)
        value = value * rest + np.float32(2.4015361e-1)
        value = value * rest + np.float32(6.9315308e-1)
        numbers[place] = value * rest + np.float32(9.9999994e-1)
        bits[place] = (whole + _BIAS) << _MANTISSA
    for place in range(len(numbers)):
        numbers[place] *= powers[place]
