"""Ranked songs as bytes of the contract, written straight from a catalogue's columns.

Most of the time that an answer takes would otherwise go into making its songs: the message of one,
made by way of Python, takes several microseconds. These loops take a fraction of one. They write
what protobuf's encoding says (https://protobuf.dev/programming-guides/encoding), field by field
from the last to the first, so that each length is known when it is to be written.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1 import song_pb2

from services.recommender.catalogue import NO_YEAR
from services.recommender.compiled import (
    BYTES,
    FLOATS,
    INT,
    INTS,
    INTS_16,
    INTS_32,
    compiled,
    compiled_for,
    prefetch,
)
from services.recommender.model import SongModel

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

VARINT, FIXED_64, LENGTH_DELIMITED = 0, 1, 2


def tag(message: Any, name: str, wire_type: int) -> int:
    """The byte before a field; fields with numbers above 15 would have two."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    if number > 15:
        raise NotImplementedError(f"{name} has the number {number}")
    return int(number << 3 | wire_type)


_ID = tag(song_pb2.Song, "id", LENGTH_DELIMITED)
_TITLE = tag(song_pb2.Song, "title", LENGTH_DELIMITED)
_ARTIST = tag(song_pb2.Song, "artist", LENGTH_DELIMITED)
_TAGS = tag(song_pb2.Song, "tags", LENGTH_DELIMITED)
_YEAR = tag(song_pb2.Song, "year", VARINT)
_PLAY_COUNT = tag(song_pb2.Song, "play_count", VARINT)
_PLACED = tag(song_pb2.Song, "placed", VARINT)
_SONG = tag(pb.ScoredSong, "song", LENGTH_DELIMITED)
_SCORE = tag(pb.ScoredSong, "score", FIXED_64)
_SONGS = tag(pb.RecommendSongsResponse, "songs", LENGTH_DELIMITED)
_RESPONSES = bytes([tag(pb.BatchRecommendSongsResponse, "responses", LENGTH_DELIMITED)])

_LONGEST_VARINT = 10
_MOST_BESIDE_TEXT = 9 * (1 + _LONGEST_VARINT)
"""Most bytes of a ranked song beside its tags and texts: nine fields' own tags and numbers."""


def batch_response(responses: Iterable[bytes], model_version: str) -> bytes:
    """A `BatchRecommendSongsResponse`, of serialized responses."""
    parts: list[bytes] = []
    for response in responses:
        parts += (_RESPONSES, _varint(len(response)), response)
    parts.append(pb.BatchRecommendSongsResponse(model_version=model_version).SerializeToString())
    return b"".join(parts)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


class SongWriter:
    """Writes songs of one model."""

    def __init__(self, model: SongModel) -> None:
        catalogue = model.catalogue
        self._columns = (
            catalogue.ids.data,
            catalogue.ids.offsets,
            catalogue.titles.data,
            catalogue.titles.offsets,
            catalogue.artists.data,
            catalogue.artists.offsets,
            catalogue.tag_names.data,
            catalogue.tag_names.offsets,
            catalogue.tags,
            catalogue.tag_offsets,
            catalogue.years,
            model.play_counts,
            model.trained,
        )

    def scored(self, positions: Ints, scores: Floats, offsets: Ints) -> list[bytes]:
        """The songs of some answers and their scores, as the field `songs` of their responses.

        Protobuf appends them to those of a response into which they are merged.

        Args:
            positions: int64 (k,), positions of songs, answer after answer.
            scores: float64 (k,).
            offsets: int64 (n + 1,), where each answer begins and ends.
        """
        written: tuple[Bytes, Ints] = _scored(positions, scores, offsets, *self._columns)
        frames, ends = written[0].tobytes(), written[1].tolist()
        return [frames[begin:end] for begin, end in pairwise(ends)]


@compiled
def _put_varint(out: Bytes, end: int, value: int) -> int:
    """Write a number before `end`; gives where it begins, as all of these do."""
    rest, count = np.uint64(value), 1
    while rest >= np.uint64(128):
        rest >>= np.uint64(7)
        count += 1
    rest = np.uint64(value)
    for at in range(end - count, end - 1):
        out[at] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
        rest >>= np.uint64(7)
    out[end - 1] = np.uint8(rest)
    return end - count


@compiled
def _put_number(out: Bytes, end: int, tag: int, value: int) -> int:
    begin = _put_varint(out, end, value) - 1
    out[begin] = tag
    return begin


@compiled
def _put_bytes(out: Bytes, end: int, data: Bytes, first: int, count: int) -> int:
    begin = end - count
    for k in range(count):
        out[begin + k] = data[first + k]
    return begin


@compiled
def _put_text(out: Bytes, end: int, tag: int, texts: Bytes, offsets: Ints, row: int) -> int:
    count = offsets[row + 1] - offsets[row]
    return _put_number(out, _put_bytes(out, end, texts, offsets[row], count), tag, count)


@compiled_for(
    *(INTS, FLOATS, INTS, BYTES, INTS, BYTES, INTS, BYTES, INTS, BYTES, INTS),
    *(INTS_32, INTS, INTS_16, INTS, INT),
)
def _scored(
    positions: Ints,
    scores: Floats,
    answers: Ints,
    ids: Bytes,
    id_offsets: Ints,
    titles: Bytes,
    title_offsets: Ints,
    artists: Bytes,
    artist_offsets: Ints,
    tag_names: Bytes,
    tag_name_offsets: Ints,
    tags: NDArray[np.int32],
    tag_offsets: Ints,
    years: NDArray[np.int16],
    play_counts: Ints,
    trained: int,
) -> tuple[Bytes, Ints]:
    most = 0
    for position in positions:
        for texts, offsets in (
            (ids, id_offsets),
            (titles, title_offsets),
            (artists, artist_offsets),
        ):
            prefetch(texts, offsets[position])
        most += _MOST_BESIDE_TEXT + id_offsets[position + 1] - id_offsets[position]
        most += title_offsets[position + 1] - title_offsets[position]
        most += artist_offsets[position + 1] - artist_offsets[position]
        for at in range(tag_offsets[position], tag_offsets[position + 1]):
            most += 1 + _LONGEST_VARINT
            most += tag_name_offsets[tags[at] + 1] - tag_name_offsets[tags[at]]
    out, begin = np.empty(most, np.uint8), most
    ends = np.empty(len(answers), np.int64)
    score_bytes = scores.view(np.uint8)
    for answer in range(len(answers) - 2, -1, -1):
        ends[answer + 1] = begin
        for row in range(answers[answer + 1] - 1, answers[answer] - 1, -1):
            position, end = positions[row], begin
            begin = _put_bytes(out, begin, score_bytes, 8 * row, 8) - 1
            out[begin] = _SCORE
            song_end = begin
            if position >= trained:
                begin = _put_number(out, begin, _PLACED, 1)
            if play_counts[position] != 0:
                begin = _put_number(out, begin, _PLAY_COUNT, play_counts[position])
            if years[position] != NO_YEAR:
                begin = _put_number(out, begin, _YEAR, years[position])
            for at in range(tag_offsets[position + 1] - 1, tag_offsets[position] - 1, -1):
                begin = _put_text(out, begin, _TAGS, tag_names, tag_name_offsets, tags[at])
            begin = _put_text(out, begin, _ARTIST, artists, artist_offsets, position)
            begin = _put_text(out, begin, _TITLE, titles, title_offsets, position)
            begin = _put_text(out, begin, _ID, ids, id_offsets, position)
            begin = _put_number(out, begin, _SONG, song_end - begin)
            begin = _put_number(out, begin, _SONGS, end - begin)
    ends[0] = begin
    return out[begin:], ends - begin
