"""Compiled loops (numba) on the threads with which torch computes.

Threads of one's own, numba's too, would fight with torch's for the cores: those of OpenMP stay
awake for a while when their work is done, so that the next product need not wake them.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import llvmlite.binding
import numba
import numpy as np
import torch
from numba import cfunc, from_dtype, types
from numba.extending import intrinsic

from services.generator.layers.compiled import OPTIONS, compiled


def library() -> Path | None:
    """The OpenMP that comes with torch; loops have one thread where torch is built with another."""
    folder = Path(torch.__file__).parent
    found = [*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")]
    return found[0] if found else None


_LIBRARY = library()


@numba.njit
def _first() -> int:
    return 0


@numba.njit
def _alone() -> int:
    return 1


@numba.njit
def _nobody() -> None:
    pass


def _external(name: str, result: Any, otherwise: Any) -> Any:
    return types.ExternalFunction(name, result()) if _LIBRARY else otherwise


thread_number: Any = _external("omp_get_thread_num", types.int32, _first)
"""For loops: which of the threads this is."""

thread_count: Any = _external("omp_get_num_threads", types.int32, _alone)
"""For loops: how many threads there are."""

barrier: Any = _external("GOMP_barrier", types.void, _nobody)
"""For loops: wait until all threads are here."""


@compiled
def share(count: int) -> tuple[int, int]:
    """For loops: the first of this thread's things, of so many, and the first behind them."""
    mine, threads = thread_number(), thread_count()
    return count * mine // threads, count * (mine + 1) // threads


@intrinsic
def _pointer(_context: Any, _address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


pointer: Any = _pointer
"""For loops: the pointer to an address, for `carray`."""

carray: Any = numba.carray  # type: ignore[attr-defined]
"""For loops: the array at a pointer."""

_Parallel = Callable[[int, int, int, int], None]


def _parallel(library: Path | None) -> _Parallel:
    """What runs a function, given its address and its argument's, in some threads at once."""
    if library is None:
        alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        return lambda function, argument, _threads, _flags: alone(function)(argument)
    llvmlite.binding.load_library_permanently(str(library))
    function = ctypes.CDLL(str(library)).GOMP_parallel
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    function.restype = None
    return cast("_Parallel", function)


_run_parallel = _parallel(_LIBRARY)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread alone, so that OpenMP makes no workers for it.

    Once two threads have workers, those of both sleep between products, and small ones take twice
    as long; a thread that computes only now and then should have none.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Call(ctypes.Structure):
    """What a compiled loop is told: numbers, and addresses of memory that others own.

    It is not to be copied with a model, whose memory it would not own in its turn.
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError("what has addresses for compiled loops cannot be copied or pickled")


def parallel(call: type[Call]) -> Callable[[Callable[[Any], None]], Any]:
    """Compile a loop, when its module is imported, that is told what it needs by a C struct.

    The loop is given a pointer to it, for `carray`; what it raises is lost.
    """
    of: Any = types.CPointer
    signature = types.void(of(from_dtype(np.dtype(call))))
    return cast(
        "Callable[[Callable[[Any], None]], Any]",
        cfunc(signature, **OPTIONS),
    )


def run(loop: Any, call: Call | ctypes.Array[Any], most: int) -> None:
    """Run a loop once in each of torch's threads at the same time; the interpreter is free.

    Args:
        loop: Of `parallel`.
        call: What it is told, or several of that.
        most: Threads that there is work for.
    """
    threads = min(most, torch.get_num_threads())
    if threads:
        _run_parallel(loop.address, ctypes.addressof(call), threads, 0)
