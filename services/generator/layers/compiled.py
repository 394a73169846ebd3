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

ROW = types.Array(types.float32, 1, "C")
ROWS = types.Array(types.float32, 2, "C")
FLOAT = types.float32


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
