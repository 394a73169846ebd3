"""The map: songs that are alike lie together, and tags tell where."""

import numpy as np
import pytest

from services.recommender.evaluation.song_map import NO_TAG, TAGS, SongMap, map_songs
from services.recommender.model import SongModel
from tests.song_models import song_model

GROUPS = 12


def model_of(tags: list[tuple[str, ...]], vectors: list[list[float]]) -> SongModel:
    return song_model(vectors, vectors, tags=tags)


@pytest.fixture(scope="module")
def clustered() -> SongModel:
    """20 songs around each of 12 directions; "k" is a tag of group k, "common" one of all."""
    random = np.random.default_rng(0)
    group = np.arange(20 * GROUPS) % GROUPS
    vectors = np.eye(GROUPS)[group] + random.normal(scale=0.05, size=(len(group), GROUPS))
    return model_of([(str(k), "common") for k in group], vectors.tolist())


@pytest.fixture(scope="module")
def song_map(clustered: SongModel) -> SongMap:
    return map_songs(clustered)


def test_every_song_has_a_point(song_map: SongMap) -> None:
    assert song_map.points.shape == (20 * GROUPS, 2)
    assert np.isfinite(song_map.points).all()


def test_a_song_lies_next_to_one_of_its_group(song_map: SongMap) -> None:
    away = np.linalg.norm(song_map.points[:, None] - song_map.points, axis=2)
    np.fill_diagonal(away, np.inf)
    group = np.arange(20 * GROUPS) % GROUPS
    assert np.mean(group[away.argmin(axis=1)] == group) > 0.95


def test_tags_are_those_that_tell_where_a_song_lies(song_map: SongMap) -> None:
    assert len(song_map.tags) == TAGS
    assert "common" not in song_map.tags[:-1]  # it tells nothing
    for song, label in enumerate(song_map.labels.tolist()):
        group = str(song % GROUPS)
        expected = song_map.tags.index(group) if group in song_map.tags else NO_TAG
        assert label in (expected, TAGS - 1)


def test_the_same_model_gives_the_same_map(clustered: SongModel, song_map: SongMap) -> None:
    np.testing.assert_array_equal(map_songs(clustered).points, song_map.points)


def test_songs_without_tags_have_no_label() -> None:
    song_map = map_songs(model_of([()] * 3, [[1, 0], [0, 1], [0, 0]]))
    assert song_map.tags == ()
    assert song_map.labels.tolist() == [NO_TAG] * 3
    assert np.isfinite(song_map.points).all()


def test_two_songs_make_a_map() -> None:
    song_map = map_songs(model_of([("a",), ()], [[1, 0], [1, 0]]))
    assert song_map.labels.tolist() == [0, NO_TAG]
    assert np.isfinite(song_map.points).all()
