"""Batches that are read from their frame: the same as by way of messages, or not at all."""

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender import requests
from services.recommender.plain_batch import PlainBatch
from serving.errors import RpcError
from serving.validation import parse, validate

SEED = pb.Seed(song_id="a")
IDS = st.text(st.characters(codec="ascii"), min_size=1, max_size=8) | st.sampled_from(
    ["x" * 127, "x" * 128, "x" * 200]
)
ODD_IDS = st.sampled_from(["", "x" * 201, "é", "\u2028"])
WEIGHTS = st.none() | st.floats(-100, 100)
ODD_WEIGHTS = st.sampled_from([100.5, -101.0, float("inf"), float("nan")])
LIMITS = st.none() | st.integers(1, 1000)


@st.composite
def batches(draw: st.DrawFn, odd: bool = False) -> pb.BatchRecommendSongsRequest:
    """Plain batches, or such as may not be."""
    ids = IDS | ODD_IDS if odd else IDS
    weights = WEIGHTS | ODD_WEIGHTS if odd else WEIGHTS
    seeds = st.builds(pb.Seed, song_id=ids, weight=weights)
    others: dict[str, Any] = {}
    if odd:
        others["exact"] = st.booleans()
        others["exclude_song_ids"] = st.lists(IDS, max_size=1)
    plain = st.builds(
        pb.RecommendSongsRequest,
        seeds=st.lists(seeds, min_size=0 if odd else 1, max_size=4),
        limit=LIMITS | st.integers(-1, 1001) if odd else LIMITS,
        **others,
    )
    wanted = draw(st.lists(plain, min_size=0 if odd else 1, max_size=4))
    return pb.BatchRecommendSongsRequest(requests=wanted)


def by_way_of_messages(frame: bytes) -> list[requests.RecommendSongs] | None:
    try:
        message = parse(frame, pb.BatchRecommendSongsRequest)
        return validate(requests.BatchRecommendSongs, message).requests
    except RpcError:
        return None


def rebuilt(batch: PlainBatch) -> list[requests.RecommendSongs]:
    """The requests of a batch, as they are by way of messages."""
    bounds = batch.offsets.tolist()
    return [
        requests.RecommendSongs(
            seeds=[
                requests.Seed(song_id=batch.seed_id(seed), weight=batch.weights[seed])
                for seed in range(bounds[row], bounds[row + 1])
            ],
            limit=batch.limits[row],
        )
        for row in range(len(batch))
    ]


def test_nearly_all_batches_are_plain() -> None:
    batch = pb.BatchRecommendSongsRequest(
        requests=[pb.RecommendSongsRequest(seeds=[SEED] * 5, limit=10)] * 256
    )
    assert PlainBatch.read(batch.SerializeToString()) is not None


@given(batch=batches())
def test_a_plain_batch_is_read_as_it_is_by_way_of_messages(
    batch: pb.BatchRecommendSongsRequest,
) -> None:
    frame = batch.SerializeToString()
    plain = PlainBatch.read(frame)
    wanted = by_way_of_messages(frame)
    if wanted is None:  # more songs are wanted in all than may be
        assert plain is None
    else:
        assert plain is not None
        assert rebuilt(plain) == wanted


@given(batch=batches(odd=True))
def test_what_is_refused_or_asks_for_more_is_not_plain(
    batch: pb.BatchRecommendSongsRequest,
) -> None:
    frame = batch.SerializeToString()
    plain = PlainBatch.read(frame)
    assert plain is None or rebuilt(plain) == by_way_of_messages(frame)


@given(batch=batches(), data=st.data())
def test_a_frame_that_was_damaged_is_read_as_protobuf_reads_it(
    batch: pb.BatchRecommendSongsRequest, data: st.DataObject
) -> None:
    frame = bytearray(batch.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(frame) - 1))
        frame[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not frame:
            break
    plain = PlainBatch.read(bytes(frame))
    assert plain is None or rebuilt(plain) == by_way_of_messages(bytes(frame))


@given(frame=st.binary(max_size=60))
@example(frame=b"")
@example(frame=b"\x0a\x00")
@example(frame=b"\x0a\x05\x0a\x03\x0a\x01")
@example(frame=b"\x0a\xff\xff\xff\xff\x0f")
@example(frame=b"\x0a\x0b\x0a\x09\x11" + struct.pack("<d", 1.0))
def test_any_bytes_are_read_as_protobuf_reads_them(frame: bytes) -> None:
    plain = PlainBatch.read(frame)
    assert plain is None or rebuilt(plain) == by_way_of_messages(frame)


FEW, MOST, MANY = (pb.RecommendSongsRequest(seeds=[SEED] * count) for count in (1, 500, 501))
WANTS_MOST = pb.RecommendSongsRequest(seeds=[SEED], limit=1000)


@pytest.mark.parametrize(
    ("wanted", "is_plain"),
    [
        ([MOST], True),
        ([MANY], False),
        ([MOST] * 20, True),
        ([MOST] * 20 + [FEW], False),
        ([WANTS_MOST] * 10, True),
        ([WANTS_MOST] * 11, False),
        ([FEW] * 256, True),
        ([FEW] * 257, False),
    ],
)
def test_no_more_is_read_than_may_be_asked(
    wanted: list[pb.RecommendSongsRequest], is_plain: bool
) -> None:
    frame = pb.BatchRecommendSongsRequest(requests=wanted).SerializeToString()
    assert (PlainBatch.read(frame) is not None) is is_plain
    assert (by_way_of_messages(frame) is not None) is is_plain
