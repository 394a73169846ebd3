"""The recommender's RPCs, over the wire."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from segue.recommender.v1 import model_pb2, recommender_service_pb2_grpc
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender import artifact
from services.recommender.blend import Blend
from services.recommender.model import Evaluation, Metrics
from tests.song_models import song_model
from tests.stack.conftest import Running, StartServer

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


# What RecommendSongs can be asked, together and by itself.
ASKED: list[dict[str, Any]] = [
    {"limit": 1000},
    {"limit": 30, "tags": pb.TagFilter(all_of=["pop"], any_of=["soul", "disco", "pop"])},
    {"limit": 30, "tags": pb.TagFilter(none_of=["metal", "polka"])},
    {"limit": 30, "max_per_artist": 1, "explain": True},
    {"diversity": 0.7, "exact": True},
    {"exclude_song_ids": ["metallica-one", "?"], "explain": True},
]
HISTORY = [
    pb.Seed(song_id="metallica-one", weight=-0.5),
    pb.Seed(song_id="abba-dancing-queen", weight=2),
    pb.Seed(song_id="no such song"),
    pb.Seed(song_id="metallica-enter-sandman", weight=0),
    pb.Seed(song_id=FADE_TO_BLACK),
]


def recommend(running: Running, **fields: Any) -> pb.RecommendSongsResponse:
    request = pb.RecommendSongsRequest(**({"seeds": HISTORY} | fields))
    return running.recommender.RecommendSongs(request)


def test_a_batch_gives_each_request_the_answer_that_it_gets_alone(running: Running) -> None:
    requests = [pb.RecommendSongsRequest(seeds=HISTORY, **fields) for fields in ASKED]
    batch = running.recommender.BatchRecommendSongs(
        pb.BatchRecommendSongsRequest(requests=requests)
    )
    assert list(batch.responses) == [recommend(running, **fields) for fields in ASKED]
    assert {one.model_version for one in batch.responses} == {batch.model_version}


@pytest.mark.parametrize("fields", ASKED, ids=", ".join)
def test_equal_requests_get_equal_answers(running: Running, fields: dict[str, Any]) -> None:
    assert recommend(running, **fields) == recommend(running, **fields)


def test_all_songs_come_but_the_seeds_when_more_are_wanted_than_there_are(running: Running) -> None:
    found = {scored.song.id for scored in recommend(running, limit=1000).songs}
    assert len(found) == 600 - 4  # the fifth seed is no song
    assert not found & {seed.song_id for seed in HISTORY}


def test_filters_let_only_songs_with_such_tags_pass(running: Running) -> None:
    tags = pb.TagFilter(all_of=["pop"], any_of=["soul", "disco"], none_of=["funk"])
    answer = recommend(running, limit=1000, tags=tags)
    assert answer.songs
    for scored in answer.songs:
        mine = set(scored.song.tags)
        assert "pop" in mine
        assert mine & {"soul", "disco"}
        assert "funk" not in mine
    assert not answer.unknown_tags


def test_tags_that_no_song_has_are_told_and_leave_nothing(running: Running) -> None:
    answer = recommend(running, tags=pb.TagFilter(all_of=["Pop", "pop"], none_of=["polka"]))
    assert list(answer.unknown_tags) == ["Pop", "polka"]
    assert not answer.songs


def test_no_artist_has_more_songs_than_asked_for(running: Running) -> None:
    answer = recommend(running, limit=1000, max_per_artist=2)
    counts = Counter(scored.song.artist.casefold() for scored in answer.songs)
    assert set(counts.values()) == {1, 2}


def test_varied_songs_are_less_alike_and_in_the_order_of_their_scores(running: Running) -> None:
    def likeness(answer: pb.RecommendSongsResponse) -> float:
        ids = [scored.song.id for scored in answer.songs]
        request = pb.GetEmbeddingsRequest(song_ids=ids)
        embeddings = running.recommender.GetEmbeddings(request).embeddings
        vectors = np.array([embedding.vector for embedding in embeddings])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((vectors @ vectors.T).mean())

    plain, varied = recommend(running), recommend(running, diversity=0.7)
    assert likeness(varied) < likeness(plain)
    scores = [scored.score for scored in varied.songs]
    assert scores == sorted(scores, reverse=True)


def test_a_disliked_song_pushes_down_what_follows_it(running: Running) -> None:
    liked, disliked = (
        recommend(running, seeds=[pb.Seed(song_id=FADE_TO_BLACK, weight=weight)], limit=600)
        for weight in (1, -1)
    )
    first = liked.songs[0].song.id
    assert first in {scored.song.id for scored in disliked.songs[-300:]}


def test_reasons_name_seeds_and_add_up_to_the_score(running: Running) -> None:
    answer = recommend(running, explain=True)
    weighing = {seed.song_id for seed in HISTORY if not seed.HasField("weight") or seed.weight}
    for scored in answer.songs:
        parts = [reason.contribution for reason in scored.reasons]
        assert sum(parts) == pytest.approx(scored.score, abs=1e-9)
        assert parts == sorted(parts, key=abs, reverse=True)
        assert {reason.seed_song_id for reason in scored.reasons} <= weighing - {"no such song"}


def test_reasons_come_only_where_they_are_asked_for_and_there_are_any(running: Running) -> None:
    for answer in (
        recommend(running),
        recommend(running, seeds=[pb.Seed(song_id="?")], explain=True),
    ):
        assert answer.songs
        assert not any(scored.reasons for scored in answer.songs)


def test_exact_similarity_is_that_of_all_songs(running: Running) -> None:
    one, other = (
        running.recommender.FindSimilarSongs(
            pb.FindSimilarSongsRequest(song_id=FADE_TO_BLACK, limit=1000, exact=exact)
        )
        for exact in (True, False)
    )
    assert len(one.songs) == 599
    assert one == other


def test_songs_of_no_playlist_are_marked_and_the_model_says_all_of_itself(
    start: StartServer, tmp_path: Path
) -> None:
    written = song_model(
        [[1, 0], [0, 1], [1, 0.5]],
        [[1, 0], [0, 1], [1, 0]],
        [[0, 1]],
        blend=Blend(recency=0.5, proximity=0.25, backward=0.75, sharpness=2, vector_share=0.125),
        play_counts=[1, 1, 0],
    )
    evaluation = Evaluation(200, (Metrics("segue", 0.5, 0.25, 0.375, 0.75),))
    artifact.save(replace(written, trained=2, evaluation=evaluation), tmp_path / "models")
    with (
        start("recommender", f"--models={tmp_path / 'models'}") as member,
        grpc.insecure_channel(member.address) as channel,
    ):
        stub = recommender_service_pb2_grpc.RecommenderServiceStub(channel)
        placed, played = "2@written", "0@written"
        found = stub.SearchSongs(pb.SearchSongsRequest(query="song 2")).matches[0].song
        by_id = stub.GetSongs(pb.GetSongsRequest(song_ids=[placed, played])).songs
        like_it = stub.FindSimilarSongs(pb.FindSimilarSongsRequest(song_id=placed)).songs
        like_another = stub.FindSimilarSongs(pb.FindSimilarSongsRequest(song_id=played)).songs
        answer = stub.GetModel(pb.GetModelRequest())
    assert (found.id, found.placed) == (placed, True)
    assert [song.placed for song in by_id] == [True, False]
    assert [(scored.song.id, scored.song.placed) for scored in like_it] == [
        (played, False),
        ("1@written", False),
    ]
    assert like_another[0].song == found
    assert answer.model.blend == model_pb2.Blend(
        recency=0.5, proximity=0.25, backward=0.75, sharpness=2, vector_share=0.125
    )
    [metrics] = answer.model.evaluation.metrics
    assert (answer.model.evaluation.targets, metrics.name, metrics.ndcg) == (200, "segue", 0.375)
    assert not answer.refused_versions


def test_a_model_that_was_not_evaluated_says_nothing_of_it(running: Running) -> None:
    assert not running.recommender.GetModel(pb.GetModelRequest()).model.HasField("evaluation")
