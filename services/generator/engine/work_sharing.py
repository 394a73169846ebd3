"""Work that a thread hands over to another that has none left.

A thread that shares its core with others, as with those that send what was computed, is late by a
tenth of a step and more. What the others have finished for themselves meanwhile was of no use.
"""

from typing import Any

import numpy as np
from numba import types

from services.generator.engine.layer_loop import Work
from services.generator.layers import atomic
from services.generator.layers.compiled import compiled
from services.generator.openmp import carray, pointer, thread_count, thread_number

_SLOT = 8  # numbers, a line of the CPU's cache
_WAITING, _TAKEN, _FULL = 1, 2, 3

# With fewer tokens two threads would both wait for the weights.
_FEWEST = 8

_yield: Any = types.ExternalFunction("sched_yield", types.int32())


def board(threads: int) -> Any:
    """Memory in which threads find each other, int64.

    The first number is how many pieces of work are not finished; the others are 0 at first. Each
    thread has a slot: whether it waits, and from which layer on it is to compute which work.
    """
    return np.zeros((threads + 1) * _SLOT, np.int64)


@compiled
def _slot(board: int, thread: int) -> int:
    return board + 8 * _SLOT * (thread + 1)


@compiled
def end(board: int) -> None:
    """Note that a thread has finished a piece of work."""
    atomic.add(board, -1)


@compiled
def _tiles(attention: Any) -> Any:
    return carray(pointer(attention.tiles), (attention.tile_count, 4), np.int64)


@compiled
def _middle(attention: Any, work: Work) -> int:
    """The tile nearest to the middle of the tokens with which a sequence begins; 0 if none does."""
    tiles, found, nearest = _tiles(attention), 0, work.last - work.first
    for tile in range(work.first_tile + 1, work.last_tile):
        distance = abs(2 * tiles[tile, 0] - work.first - work.last)
        if tiles[tile, 3] != tiles[tile - 1, 3] and distance < nearest:
            found, nearest = tile, distance
    return found


@compiled
def _waiting(board: int) -> int:
    """The slot of a thread that waits, which now waits for the caller; 0 if none does."""
    for thread in range(thread_count()):
        slot = _slot(board, thread)
        if atomic.load(slot) == _WAITING and atomic.exchange(slot, _WAITING, _TAKEN):
            return slot
    return 0


@compiled
def hand_over(board: int, attention: Any, layer: int, work: Work) -> Work:
    """Give half of the work, from a layer on, to a thread that waits for some; gives the rest."""
    if work.last - work.first < _FEWEST:
        return work
    tile = _middle(attention, work)
    slot = _waiting(board) if tile else 0
    if slot == 0:
        return work
    atomic.add(board, 1)
    token = _tiles(attention)[tile, 0]
    told = carray(pointer(slot), _SLOT, np.int64)
    told[1], told[2], told[3], told[4], told[5] = layer, token, work.last, tile, work.last_tile
    atomic.store(slot, _FULL)
    return Work(True, work.first, token, work.first, token, work.first_tile, tile)


@compiled
def take(board: int) -> tuple[int, Work]:
    """Wait for work; gives the layer from which on to compute it, or -1 when all is done."""
    slot = _slot(board, thread_number())
    atomic.store(slot, _WAITING)
    while atomic.load(slot) != _FULL:
        if atomic.load(board) == 0:
            return -1, Work(True, 0, 0, 0, 0, 0, 0)
        _yield()
    told = carray(pointer(slot), _SLOT, np.int64)
    first, last = told[2], told[3]
    return told[1], Work(True, first, last, first, last, told[4], told[5])
