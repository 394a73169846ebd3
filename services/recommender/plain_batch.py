"""Batches of plain requests, read straight from their frame.

Most of the time that a batch takes would otherwise go into turning its messages into objects of
Python, several for each seed. What is read here is what nearly all batches are made of: seeds,
their weights, and how many songs are wanted. Whatever holds more, or anything that is refused, is
left to protobuf and to `requests`, which say what is wrong with it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender.compiled import BYTES, compiled, compiled_for
from services.recommender.requests import (
    BATCH_LIMIT,
    LARGEST_WEIGHT,
    MOST_REQUESTS,
    MOST_SEEDS,
    MOST_WANTED,
    WANTED,
)
from services.recommender.wire import FIXED_64, LENGTH_DELIMITED, VARINT, tag
from serving.validation import LONGEST_ID

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_REQUESTS = tag(pb.BatchRecommendSongsRequest, "requests", LENGTH_DELIMITED)
_SEEDS = tag(pb.RecommendSongsRequest, "seeds", LENGTH_DELIMITED)
_LIMIT = tag(pb.RecommendSongsRequest, "limit", VARINT)
_SONG_ID = tag(pb.Seed, "song_id", LENGTH_DELIMITED)
_WEIGHT = tag(pb.Seed, "weight", FIXED_64)
_LEAST_SEED = 5  # bytes, for an id of one letter


@dataclass(frozen=True, slots=True)
class PlainBatch:
    """Requests of seeds and of how many songs are wanted, and of nothing else.

    Attributes:
        frame: uint8, the `BatchRecommendSongsRequest` as it came.
        begins: int64 (s,), where in the frame the id of each seed begins, request after request.
        lengths: int64 (s,), how long it is; all its characters are ASCII.
        weights: float64 (s,), how much each seed counts.
        offsets: int64 (n + 1,), where the seeds of each request begin and end.
        limits: int64 (n,), how many songs each request wants.
    """

    frame: Bytes
    begins: Ints
    lengths: Ints
    weights: Floats
    offsets: Ints
    limits: Ints

    def __len__(self) -> int:
        return len(self.limits)

    @classmethod
    def read(cls, raw: bytes) -> "PlainBatch | None":
        """The batch in a frame; None where it is not plain, or is to be refused."""
        frame = np.frombuffer(raw, np.uint8)
        begins, lengths, weights, offsets, limits = _read(frame)
        if len(limits) == 0:
            return None
        return cls(frame, begins, lengths, weights, offsets, limits)

    def seed_id(self, seed: int) -> str:
        """The id of one seed."""
        begin = self.begins[seed]
        return self.frame[begin : begin + self.lengths[seed]].tobytes().decode()


@compiled
def _number(frame: Bytes, at: int, end: int) -> tuple[int, int]:
    """A varint of at most 28 bits, and what is behind it; -1 where there is none before `end`."""
    value = 0
    for place in range(at, min(at + 4, end)):
        value |= int(frame[place] & 127) << (7 * (place - at))
        if frame[place] < 128:
            return value, place + 1
    return -1, end


@compiled
def _part(frame: Bytes, at: int, end: int) -> tuple[int, int]:
    """Where something begins and ends whose length stands at a place; -1 where it does not fit."""
    size, begin = _number(frame, at, end)
    return (begin, begin + size) if 0 <= size <= end - begin else (-1, -1)


@compiled
def _weight(frame: Bytes, at: int) -> float:
    bits = np.uint64(0)
    for place in range(8):
        bits |= np.uint64(frame[at + place]) << np.uint64(8 * place)
    return float(np.array([bits]).view(np.float64)[0])


@compiled
def _seed(frame: Bytes, at: int, end: int) -> tuple[int, int, float]:
    """Where the id of a seed begins, its length, and the weight; length 0 where it is not plain."""
    first, length, weight, weighed = 0, 0, 1.0, False
    while at < end:
        field = frame[at]
        if field == _SONG_ID and length == 0:
            first, behind = _part(frame, at + 1, end)
            length, at = behind - first, behind
            if not 1 <= length <= LONGEST_ID or (frame[first:behind] >= 128).any():
                return 0, 0, 0.0
        elif field == _WEIGHT and not weighed and at + 9 <= end:
            weight, weighed, at = _weight(frame, at + 1), True, at + 9
            if not abs(weight) <= LARGEST_WEIGHT:
                return 0, 0, 0.0
        else:
            return 0, 0, 0.0
    return first, length, weight


@compiled
def _request(
    frame: Bytes, at: int, end: int, begins: Ints, lengths: Ints, weights: Floats
) -> tuple[int, int]:
    """Write down the seeds of a request, and give their number and how many songs it wants.

    The number is 0 where it is not plain, or where there is no room for its seeds.
    """
    seeds, wanted = 0, 0
    while at < end:
        field = frame[at]
        if field == _SEEDS and seeds < len(begins):
            at, behind = _part(frame, at + 1, end)
            begins[seeds], lengths[seeds], weights[seeds] = _seed(frame, at, behind)
            if at < 0 or lengths[seeds] == 0:
                return 0, 0
            seeds, at = seeds + 1, behind
        elif field == _LIMIT and wanted == 0:
            wanted, at = _number(frame, at + 1, end)
            if not 1 <= wanted <= MOST_WANTED:
                return 0, 0
        else:
            return 0, 0
    return seeds, wanted if wanted else WANTED


@compiled_for(BYTES)
def _read(frame: Bytes) -> tuple[Ints, Ints, Floats, Ints, Ints]:
    """See `PlainBatch`; no requests where it is not plain."""
    room = min(BATCH_LIMIT, len(frame) // _LEAST_SEED)
    begins, lengths, weights = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
    offsets, limits = np.zeros(MOST_REQUESTS + 1, np.int64), np.empty(MOST_REQUESTS, np.int64)
    count, wanted, at = 0, 0, 0
    while at < len(frame):
        if frame[at] != _REQUESTS or count == MOST_REQUESTS:
            return begins, lengths, weights, offsets, limits[:0]
        at, end = _part(frame, at + 1, len(frame))
        first = offsets[count]
        seeds, limits[count] = _request(
            frame, at, end, begins[first:], lengths[first:], weights[first:]
        )
        wanted += limits[count]
        if at < 0 or not 1 <= seeds <= MOST_SEEDS or wanted > BATCH_LIMIT:
            return begins, lengths, weights, offsets, limits[:0]
        offsets[count + 1] = first + seeds
        count, at = count + 1, end
    seeds = offsets[count]
    return begins[:seeds], lengths[:seeds], weights[:seeds], offsets[: count + 1], limits[:count]
