"""A model of radio that makes up playlists. What it makes is synthetic: nobody played or heard it.

A playlist is a random walk over the songs of one station. It begins anywhere and drifts: most
songs resemble the one before in genre and year, some are taken from anywhere again. Hits come
more often than other songs, and one artist seldom comes twice in a row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Song
from services.recommender.starter.stations import STATIONS, Station

SHORTEST, LONGEST = 8, 25
"""How many songs a playlist has at least and at most."""

_HIT_EXPONENT = 0.5  # the song ranked r is played r^-0.5 times as often as the first
_YEARS_APART = 8.0  # so many years between two songs make the step e times less likely
_JUMP = 0.1  # the share of steps that start afresh from the whole station
_SAME_ARTIST = 0.03  # the odds of an artist's next song when the last one was theirs, too

_Floats = NDArray[np.float64]


def sample_playlists(
    songs: Sequence[Song], count: int, seed: int, stations: Sequence[Station] = STATIONS
) -> list[NDArray[np.int32]]:
    """Make up playlists; the same arguments give the same ones.

    Args:
        songs: the songs to play; those without a year or without tags are never played.
        count: how many playlists.
        seed: of all chance, which songs are hits included.
        stations: who plays; each playlist is of one of them, drawn with equal odds.

    Returns:
        `count` arrays (int32) of 8 to 25 positions in `songs`, in a random order of stations. No
        playlist has a song twice; one of a small station has at most half of its songs.

    Raises:
        ValueError: the count is negative, or a station has too few songs for a playlist.
    """
    if count < 0:
        raise ValueError(f"{count} playlists cannot be sampled; ask for 0 or more.")
    rng = np.random.default_rng(seed)
    hits = (1.0 + rng.permutation(len(songs))) ** -_HIT_EXPONENT
    turns = rng.integers(len(stations), size=count)
    playlists: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * count
    for number, station in enumerate(stations):
        airplay = hits * np.array([station.fit(song) for song in songs])
        pool = np.flatnonzero(airplay)
        if len(pool) < 2 * SHORTEST:
            raise ValueError(
                f"The station {station.name!r} has {len(pool)} songs to play but needs "
                f"{2 * SHORTEST}; give it more songs, genres or years."
            )
        slots = np.flatnonzero(turns == number)
        walks = _walks(
            airplay[pool], _affinity([songs[song] for song in pool.tolist()]), len(slots), rng
        )
        for slot, walk in zip(slots, walks, strict=True):
            playlists[slot] = pool[walk].astype(np.int32)
    return playlists


def _affinity(songs: Sequence[Song]) -> _Floats:
    """How readily each song of a station (row) is followed by each other, airplay aside.

    The product of the closeness in genre, in years, and a penalty for the same artist. Genres
    are compared by the cosine of their tags, in which a rare tag weighs more (inverse document
    frequency), squared.
    """
    names = sorted({tag for song in songs for tag in song.tags})
    tags = np.array([[name in song.tags for name in names] for song in songs], np.float64)
    tags = tags.reshape(len(songs), len(names))
    tags *= np.log1p(len(songs) / tags.sum(axis=0))
    tags /= np.linalg.norm(tags, axis=1, keepdims=True)
    years = np.array([song.year for song in songs], np.float64)
    artists = np.array([song.artist for song in songs])
    genre = (tags @ tags.T) ** 2
    period = np.exp(-np.abs(years[:, None] - years) / _YEARS_APART)
    return genre * period * np.where(artists[:, None] == artists, _SAME_ARTIST, 1.0)


def _walks(
    airplay: _Floats, affinity: _Floats, count: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Walk `count` times over the n songs of one station, all walks a step at a time.

    Args:
        airplay: [n] how often the station plays each song, in any unit.
        affinity: [n, n] how readily the column's song follows the row's.
        count: how many walks.
        rng: the source of chance.

    Returns:
        For each walk the songs, from 0 to n - 1, none twice.
    """
    airplay = airplay / airplay.sum()
    drift = airplay * affinity
    drift /= drift.sum(axis=1, keepdims=True)
    steps = (1 - _JUMP) * drift + _JUMP * airplay
    lengths = rng.integers(SHORTEST, LONGEST + 1, size=count).clip(max=len(airplay) // 2)
    rows = np.arange(count)
    unplayed = np.ones((count, len(airplay)))
    walks = np.empty((count, lengths.max(initial=0)), np.intp)
    odds = np.broadcast_to(airplay, unplayed.shape)
    for step in range(walks.shape[1]):
        walks[:, step] = _draw(odds * unplayed, rng)
        unplayed[rows, walks[:, step]] = 0.0
        odds = steps[walks[:, step]]
    return [walk[:length] for walk, length in zip(walks, lengths, strict=True)]


def _draw(odds: _Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw one column of each row, by the inverse of its cumulative odds."""
    cumulative = odds.cumsum(axis=1)
    picks = rng.random(len(odds)) * cumulative[:, -1]
    chosen: NDArray[np.intp] = (cumulative > picks[:, None]).argmax(axis=1)
    return chosen
