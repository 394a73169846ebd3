"""Answers: requests in, messages out, whatever the model and whatever is asked."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender.answers import Answers
from services.recommender.follower import HISTORY
from services.recommender.model import SongModel
from services.recommender.requests import FindSimilarSongs, RecommendSongs, Seed, TagFilter
from tests.song_models import numbered_model, served, song_model, song_models

quick = settings(max_examples=40, deadline=None)

TAGS = ("rock", "pop", "live", "nobody's")


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that answers, and what it is asked."""

    answers: Answers
    requests: list[RecommendSongs]


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """A small model, and requests that name songs and tags it knows and some that it does not."""
    model = draw(song_models())
    ids = st.sampled_from([*map(id_of, range(len(model))), "unknown", "unheard"])
    # Whole numbers, and of one sign only where they might cancel each other out but for rounding.
    signs = draw(st.sampled_from([(0, 1, 2, 3), (-3, -1, 0), (-8, 1)]))
    seeds = st.builds(Seed, song_id=ids, weight=st.sampled_from(signs).map(float))
    tags = st.lists(st.sampled_from(TAGS), max_size=2).map(tuple)
    request = st.builds(
        RecommendSongs,
        seeds=st.lists(seeds, min_size=1, max_size=5),
        limit=st.integers(1, 15),
        exclude_song_ids=st.lists(ids, max_size=4).map(tuple),
        tags=st.none() | st.builds(TagFilter, all_of=tags, any_of=tags, none_of=tags),
        max_per_artist=st.none() | st.integers(1, 3),
        diversity=st.sampled_from([0.0, 0.4, 1.0]),
        exact=st.booleans(),
        explain=st.booleans(),
    )
    return Asked(Answers(served(model)), draw(st.lists(request, min_size=1, max_size=4)))


def id_of(position: int) -> str:
    return f"{position}@written"


def recommend(answers: Answers, wanted: RecommendSongs) -> pb.RecommendSongsResponse:
    """The answer to one request alone."""
    [response] = answers.part([wanted], 0, 1)
    return pb.RecommendSongsResponse.FromString(response)


def request(*seeds: str | Seed, **fields: Any) -> RecommendSongs:
    """A request; a seed that is an id weighs 1."""
    written = [Seed(song_id=seed) if isinstance(seed, str) else seed for seed in seeds]
    return RecommendSongs(seeds=written, **fields)


def songs(response: pb.RecommendSongsResponse) -> list[str]:
    return [scored.song.id for scored in response.songs]


def may_be_recommended(model: SongModel, wanted: RecommendSongs) -> set[str]:
    """The songs that a request allows, by the words of the contract."""
    barred = {seed.song_id for seed in wanted.seeds} | set(wanted.exclude_song_ids)
    tags = wanted.tags or TagFilter()
    return {
        song.id
        for song in (model.catalogue[position] for position in range(len(model)))
        if song.id not in barred
        and set(song.tags) >= set(tags.all_of)
        and (not tags.any_of or set(song.tags) & set(tags.any_of))
        and not set(song.tags) & set(tags.none_of)
    }


class TestEveryAnswer:
    @quick
    @given(asked())
    def test_holds_only_songs_that_were_asked_for_each_once(self, asked: Asked) -> None:
        for wanted in asked.requests:
            found = songs(recommend(asked.answers, wanted))
            assert len(found) == len(set(found)) <= wanted.limit
            assert set(found) <= may_be_recommended(asked.answers.served.model, wanted)

    @quick
    @given(asked())
    def test_is_as_long_as_the_songs_that_are_allowed_go(self, asked: Asked) -> None:
        for wanted in asked.requests:
            allowed = may_be_recommended(asked.answers.served.model, wanted)
            if wanted.max_per_artist is None:
                found = songs(recommend(asked.answers, wanted))
                assert len(found) == min(wanted.limit, len(allowed))

    @quick
    @given(asked())
    def test_has_no_more_songs_of_an_artist_than_asked_for(self, asked: Asked) -> None:
        for wanted in asked.requests:
            if wanted.max_per_artist is not None:
                response = recommend(asked.answers, wanted)
                artists = Counter(scored.song.artist.casefold() for scored in response.songs)
                artists.pop("", None)
                assert max(artists.values(), default=0) <= wanted.max_per_artist

    @quick
    @given(asked())
    def test_is_in_the_order_of_scores_that_are_shares(self, asked: Asked) -> None:
        for wanted in asked.requests:
            scores = [scored.score for scored in recommend(asked.answers, wanted).songs]
            assert scores == sorted(scores, reverse=True)
            assert all(score <= 1 + 1e-9 for score in scores)
            if all(seed.weight >= 0 for seed in wanted.seeds):
                assert all(score >= 0 for score in scores)

    @quick
    @given(asked())
    def test_is_the_same_where_it_is_quick(self, asked: Asked) -> None:
        for quick, whole in zip(
            asked.answers.quick(asked.requests),
            asked.answers.part(asked.requests, 0, len(asked.requests)),
            strict=True,
        ):
            assert quick in (None, whole)

    @quick
    @given(asked())
    def test_is_equal_for_an_equal_request(self, asked: Asked) -> None:
        for wanted in asked.requests:
            assert recommend(asked.answers, wanted) == recommend(asked.answers, wanted)

    @quick
    @given(asked())
    def test_is_the_same_in_a_batch(self, asked: Asked) -> None:
        alone = [asked.answers.part([wanted], 0, 1) for wanted in asked.requests]
        assert [
            [answer] for answer in asked.answers.part(asked.requests, 0, len(asked.requests))
        ] == alone

    @quick
    @given(asked())
    def test_tells_what_it_rests_on_and_what_it_does_not_know(self, asked: Asked) -> None:
        model = asked.answers.served.model
        known = {id_of(position) for position in range(len(model))}
        used = {tag for position in range(len(model)) for tag in model.catalogue[position].tags}
        for wanted in asked.requests:
            response = recommend(asked.answers, wanted)
            ids = [seed.song_id for seed in wanted.seeds]
            usable = any(seed.song_id in known and seed.weight for seed in wanted.seeds)
            assert (response.basis == pb.RECOMMENDATION_BASIS_SEEDS) == usable
            assert list(response.unknown_song_ids) == [
                song_id for song_id in dict.fromkeys(ids) if song_id not in known
            ]
            tags = wanted.tags or TagFilter()
            asked_tags = dict.fromkeys((*tags.all_of, *tags.any_of, *tags.none_of))
            assert list(response.unknown_tags) == [tag for tag in asked_tags if tag not in used]
            assert response.model_version == model.version

    @quick
    @given(asked())
    def test_has_reasons_that_add_up_to_the_score_where_they_were_asked_for(
        self, asked: Asked
    ) -> None:
        for wanted in asked.requests:
            response = recommend(asked.answers, wanted)
            explained = wanted.explain and response.basis == pb.RECOMMENDATION_BASIS_SEEDS
            weighing = {seed.song_id for seed in wanted.seeds if seed.weight}
            for scored in response.songs:
                parts = [reason.contribution for reason in scored.reasons]
                if not explained:
                    assert not parts
                    continue
                assert sum(parts) == pytest.approx(scored.score, abs=1e-9)
                assert parts == sorted(parts, key=abs, reverse=True)
                assert 0 not in parts
                assert {reason.seed_song_id for reason in scored.reasons} <= weighing

    @quick
    @given(asked())
    def test_is_not_changed_by_asking_for_reasons(self, asked: Asked) -> None:
        for wanted in asked.requests:
            plain, explained = (
                recommend(asked.answers, wanted.model_copy(update={"explain": explain}))
                for explain in (False, True)
            )
            for scored in explained.songs:
                scored.ClearField("reasons")
            assert explained == plain


class TestSeeds:
    def test_only_the_latest_of_a_long_history_count(self) -> None:
        model = numbered_model("written", songs=60)
        answers = Answers(served(model))
        latest = [id_of(position) for position in range(HISTORY)]
        earlier = [id_of(HISTORY), id_of(HISTORY + 1)]
        with_earlier = recommend(answers, request(*earlier, *latest, explain=True, limit=20))
        without = request(*latest, exclude_song_ids=tuple(earlier), explain=True, limit=20)
        assert with_earlier == recommend(answers, without)
        reasons = {reason.seed_song_id for one in with_earlier.songs for reason in one.reasons}
        assert reasons <= set(latest)
        assert HISTORY == 30, "the contract's comments say 30"

    def test_what_is_unknown_or_weighs_nothing_takes_no_place_among_the_latest(self) -> None:
        model = numbered_model("written", songs=60)
        answers = Answers(served(model))
        nothing = Seed(song_id=id_of(40), weight=0)
        after = recommend(answers, request(id_of(1), *[nothing] * 40, *["unknown"] * 40, limit=20))
        alone = recommend(answers, request(id_of(1), exclude_song_ids=(id_of(40),), limit=20))
        assert list(after.songs) == list(alone.songs)

    def test_the_later_of_two_seeds_counts_more(self) -> None:
        """Song 2 follows song 0 in playlists, song 3 follows song 1; all else is equal."""
        model = song_model([[0, 0]] * 4, [[0, 0]] * 4, [[0, 2], [1, 3]])
        answers = Answers(served(model))
        assert songs(recommend(answers, request(id_of(0), id_of(1), limit=1))) == [id_of(3)]
        assert songs(recommend(answers, request(id_of(1), id_of(0), limit=1))) == [id_of(2)]

    def test_a_negative_weight_speaks_against_what_follows_the_seed(self) -> None:
        model = song_model([[0, 0]] * 4, [[0, 0]] * 4, [[0, 2], [1, 3]])
        answers = Answers(served(model))
        disliked = Seed(song_id=id_of(1), weight=-1)
        response = recommend(answers, request(id_of(0), disliked, explain=True))
        liked, unlike = response.songs
        assert (liked.song.id, unlike.song.id) == (id_of(2), id_of(3))
        against = {reason.seed_song_id: reason.contribution for reason in unlike.reasons}
        assert against[id_of(1)] < 0
        assert unlike.score < liked.score


class TestVariety:
    # Songs 1 and 2 are twins and follow the seed often; song 3 is unlike them and follows it less.
    MODEL = song_model(
        [[1, 1], [1, 0], [1, 0], [0, 1]],
        [[0, 0]] * 4,
        [[0, 1, 2]] * 3 + [[0, 2, 1]] * 3 + [[0, 3]],
        artists=["A", "B", "b", "C"],
    )

    def test_without_it_the_likeliest_come(self) -> None:
        response = recommend(Answers(served(self.MODEL)), request(id_of(0), limit=2))
        assert set(songs(response)) == {id_of(1), id_of(2)}

    @pytest.mark.parametrize("fields", [{"diversity": 0.9}, {"max_per_artist": 1}])
    def test_with_it_one_of_the_twins_makes_room(self, fields: dict[str, Any]) -> None:
        response = recommend(Answers(served(self.MODEL)), request(id_of(0), limit=2, **fields))
        first, second = songs(response)
        assert first in {id_of(1), id_of(2)}
        assert second == id_of(3)


class TestByPopularity:
    def test_scores_are_shares_of_all_plays_without_reasons(self) -> None:
        model = song_model([[0, 0]] * 3, [[0, 0]] * 3, play_counts=[5, 3, 2])
        response = recommend(Answers(served(model)), request("unknown", explain=True))
        assert response.basis == pb.RECOMMENDATION_BASIS_POPULARITY
        assert [scored.score for scored in response.songs] == [0.5, 0.3, 0.2]
        assert not any(scored.reasons for scored in response.songs)

    def test_filters_hold_all_the_same(self) -> None:
        model = song_model(
            [[0, 0]] * 3, [[0, 0]] * 3, tags=[("rock",), ("pop",), ("rock",)], play_counts=[3, 2, 1]
        )
        answers = Answers(served(model))
        rock = TagFilter(all_of=("rock",))
        assert songs(recommend(answers, request("?", tags=rock))) == [id_of(0), id_of(2)]
        excluded = request("?", tags=rock, exclude_song_ids=(id_of(0),))
        assert songs(recommend(answers, excluded)) == [id_of(2)]


class TestPlacedSongs:
    """The last song is in no playlist; its vectors were inferred."""

    ANSWERS = Answers(
        served(
            replace(
                song_model([[1, 0], [0, 1], [1, 0.1]], [[1, 0], [0, 1], [1, 0]], [[0, 1]]),
                trained=2,
            )
        )
    )

    def test_are_found_by_id_and_marked(self) -> None:
        found = self.ANSWERS.get([id_of(2), id_of(0)]).songs
        assert [song.placed for song in found] == [True, False]

    def test_are_recommended_by_their_vectors(self) -> None:
        response = recommend(self.ANSWERS, request(id_of(0), explain=True))
        [placed] = [scored for scored in response.songs if scored.song.placed]
        assert placed.song.id == id_of(2)
        [reason] = placed.reasons
        assert reason.from_playlists == 0
        assert reason.contribution == pytest.approx(placed.score)

    def test_have_songs_like_them(self) -> None:
        wanted = FindSimilarSongs(song_id=id_of(2), limit=1)
        [nearest] = self.ANSWERS.similar(wanted).songs
        assert nearest.song.id == id_of(0)


def test_songs_asked_for_by_id_come_in_that_order_each_once() -> None:
    answers = Answers(served(numbered_model("written")))
    response = answers.get([id_of(2), "unknown", id_of(0), id_of(2)])
    assert [song.id for song in response.songs] == [id_of(2), id_of(0)]
    assert list(response.unknown_song_ids) == ["unknown"]


def test_embeddings_are_both_vectors_of_the_model() -> None:
    model = song_model([[1, 2], [3, 4]], [[5, 6], [7, 8]])
    response = Answers(served(model)).embeddings([id_of(1), "unknown"])
    assert list(response.embeddings) == [
        pb.SongEmbedding(song_id=id_of(1), vector=[3, 4], output_vector=[7, 8])
    ]
    assert list(response.unknown_song_ids) == ["unknown"]
