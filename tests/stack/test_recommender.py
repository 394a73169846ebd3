"""The recommender's RPCs, over the wire."""

import numpy as np
import pytest
from segue.recommender.v1 import recommender_service_pb2 as pb

from tests.stack.conftest import Running

FADE_TO_BLACK = "metallica-fade-to-black"


def test_search_finds_a_song_in_spite_of_typos_and_order(running: Running) -> None:
    for query in ("fade to black metallica", "metalica fade too blak"):
        answer = running.recommender.SearchSongs(pb.SearchSongsRequest(query=query))
        assert answer.matches[0].song.id == FADE_TO_BLACK
        assert 0 < answer.matches[0].score <= 1


def test_pages_of_a_search_follow_each_other_without_gap_or_repeat(running: Running) -> None:
    whole = running.recommender.SearchSongs(pb.SearchSongsRequest(query="love", page_size=9))
    ids: list[str] = []
    token = ""
    for _ in range(3):
        request = pb.SearchSongsRequest(query="love", page_size=3, page_token=token)
        page = running.recommender.SearchSongs(request)
        ids += [match.song.id for match in page.matches]
        token = page.next_page_token
    assert ids == [match.song.id for match in whole.matches]


def test_the_last_page_has_no_token(running: Running) -> None:
    answer = running.recommender.SearchSongs(
        pb.SearchSongsRequest(query="fade to black metallica", page_size=100)
    )
    assert not answer.next_page_token


def test_songs_come_in_the_order_asked_for_and_unknown_ids_are_listed(running: Running) -> None:
    request = pb.GetSongsRequest(song_ids=["abba-dancing-queen", "0", FADE_TO_BLACK, "nope"])
    answer = running.recommender.GetSongs(request)
    assert [song.id for song in answer.songs] == ["abba-dancing-queen", FADE_TO_BLACK]
    assert list(answer.unknown_song_ids) == ["0", "nope"]
    assert answer.songs[1].artist == "Metallica"
    assert "metal" in " ".join(answer.songs[1].tags)
    assert answer.songs[1].year == 1984


def test_similar_songs_are_ordered_by_cosine_and_do_not_hold_the_song(running: Running) -> None:
    request = pb.FindSimilarSongsRequest(song_id=FADE_TO_BLACK, limit=20)
    answer = running.recommender.FindSimilarSongs(request)
    scores = [scored.score for scored in answer.songs]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    assert FADE_TO_BLACK not in {scored.song.id for scored in answer.songs}


def test_recommended_songs_leave_out_seeds_and_excluded_songs(running: Running) -> None:
    seeds = [pb.Seed(song_id=FADE_TO_BLACK), pb.Seed(song_id="no such song")]
    first = running.recommender.RecommendSongs(pb.RecommendSongsRequest(seeds=seeds, limit=5))
    assert first.basis == pb.RECOMMENDATION_BASIS_SEEDS
    assert list(first.unknown_song_ids) == ["no such song"]
    excluded = [scored.song.id for scored in first.songs]
    request = pb.RecommendSongsRequest(seeds=seeds, limit=5, exclude_song_ids=excluded)
    second = running.recommender.RecommendSongs(request)
    assert not {scored.song.id for scored in second.songs} & {*excluded, FADE_TO_BLACK}


def test_after_metal_comes_rock(running: Running) -> None:
    request = pb.RecommendSongsRequest(seeds=[pb.Seed(song_id=FADE_TO_BLACK)], limit=5)
    answer = running.recommender.RecommendSongs(request)
    for scored in answer.songs:
        assert {"metal", "thrash metal", "hard rock", "grunge", "rock"} & set(scored.song.tags)


@pytest.mark.parametrize("seed", [pb.Seed(song_id="?"), pb.Seed(song_id=FADE_TO_BLACK, weight=0)])
def test_without_a_usable_seed_popular_songs_come_and_it_is_said(
    running: Running, seed: pb.Seed
) -> None:
    request = pb.RecommendSongsRequest(seeds=[seed], limit=10)
    answer = running.recommender.RecommendSongs(request)
    assert answer.basis == pb.RECOMMENDATION_BASIS_POPULARITY
    counts = [scored.song.play_count for scored in answer.songs]
    assert counts == sorted(counts, reverse=True)
    assert len(counts) == 10


def test_embeddings_are_the_vectors_that_similarity_rests_on(running: Running) -> None:
    request = pb.FindSimilarSongsRequest(song_id=FADE_TO_BLACK, limit=1)
    nearest = running.recommender.FindSimilarSongs(request).songs[0]
    answer = running.recommender.GetEmbeddings(
        pb.GetEmbeddingsRequest(song_ids=[FADE_TO_BLACK, nearest.song.id, "?"])
    )
    assert list(answer.unknown_song_ids) == ["?"]
    one, other = (np.array(embedding.vector) for embedding in answer.embeddings)
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    assert cosine == pytest.approx(nearest.score, abs=1e-5)


def test_the_model_is_described(running: Running) -> None:
    model = running.recommender.GetModel(pb.GetModelRequest()).model
    assert model.corpus.songs == 600
    assert model.hyperparameters.skip_gram
    assert model.index_uri == "exact://"
