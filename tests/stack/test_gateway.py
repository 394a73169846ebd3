"""The whole path: songs first, then text about them."""

from typing import Any

import grpc
import pytest
from segue.gateway.v1 import gateway_service_pb2 as pb
from segue.generator.v1 import generation_pb2
from segue.recommender.v1 import recommender_service_pb2 as recommender

from tests.stack.conftest import Running

SHORT = generation_pb2.Stopping(max_new_tokens=12)


def test_a_narration_is_songs_then_text_then_the_end(running: Running) -> None:
    request = pb.NarrateRequest(
        seeds=[
            pb.NarrationSeed(query="fade to black metallica"),
            pb.NarrationSeed(song_id="abba-dancing-queen"),
        ],
        limit=4,
        stopping=SHORT,
    )
    events = list(running.gateway.Narrate(request))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["songs", *["text"] * (len(events) - 2), "finished"]
    songs, finished = events[0].songs, events[-1].finished
    assert [song.title for song in songs.seeds] == ["Fade to Black", "Dancing Queen"]
    assert len(songs.songs) == 4
    assert finished.usage.generated_tokens == 12
    assert finished.song_model_version
    assert finished.language_model == "SmolLM2-135M-Instruct"
    assert not finished.HasField("error")
    assert (
        finished.time_to_songs.ToNanoseconds()
        < finished.time_to_first_text.ToNanoseconds()
        <= finished.total_time.ToNanoseconds()
    )


def test_search_and_recommendation_are_those_of_the_recommender(running: Running) -> None:
    ours = running.gateway.SearchSongs(pb.SearchSongsRequest(query="dancing queen"))
    request = recommender.SearchSongsRequest(query="dancing queen")
    theirs = running.recommender.SearchSongs(request)
    assert ours.SerializeToString() == theirs.SerializeToString()
    seeds = [recommender.Seed(song_id="abba-dancing-queen")]
    our_songs = running.gateway.RecommendSongs(pb.RecommendSongsRequest(seeds=seeds))
    their_songs = running.recommender.RecommendSongs(recommender.RecommendSongsRequest(seeds=seeds))
    assert our_songs.SerializeToString() == their_songs.SerializeToString()


def test_all_that_recommendation_can_be_asked_and_can_tell_passes_through(
    running: Running,
) -> None:
    fields: dict[str, Any] = {
        "seeds": [
            recommender.Seed(song_id="no such song"),
            recommender.Seed(song_id="metallica-one", weight=-0.5),
            recommender.Seed(song_id="abba-dancing-queen", weight=2),
        ],
        "limit": 25,
        "exclude_song_ids": ["abba-the-winner-takes-it-all"],
        "tags": recommender.TagFilter(any_of=["pop", "soul"], none_of=["polka"]),
        "max_per_artist": 1,
        "diversity": 0.3,
        "exact": True,
        "explain": True,
    }
    assert {field.name for field in pb.RecommendSongsRequest.DESCRIPTOR.fields} == set(fields)
    ours = running.gateway.RecommendSongs(pb.RecommendSongsRequest(**fields))
    theirs = running.recommender.RecommendSongs(recommender.RecommendSongsRequest(**fields))
    assert {field.name: value for field, value in ours.ListFields()} == {
        field.name: value for field, value in theirs.ListFields()
    }
    told = {field.name for field, _ in ours.ListFields()}
    assert told == {field.name for field in ours.DESCRIPTOR.fields}
    assert all(scored.reasons for scored in ours.songs)


def test_text_passes_through(running: Running) -> None:
    request = pb.GenerateStreamRequest(prompt="The song", stopping=SHORT, logprobs=2)
    events = list(running.gateway.GenerateStream(request))
    assert events[0].HasField("started")
    assert events[-1].finished.usage.generated_tokens == 12
    told = [one for event in events[1:-1] for one in event.delta.logprobs]
    assert [len(one.top) for one in told] == [2] * 12


def test_a_seed_that_matches_nothing_is_not_found(running: Running) -> None:
    request = pb.NarrateRequest(seeds=[pb.NarrationSeed(query="zzzzqqqq xxxxwwww")])
    with pytest.raises(grpc.RpcError) as caught:
        list(running.gateway.Narrate(request))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "seeds[0].query" in str(caught.value.details())


def test_unknown_seeds_still_give_songs(running: Running) -> None:
    request = pb.NarrateRequest(seeds=[pb.NarrationSeed(song_id="nobody")], stopping=SHORT)
    songs = next(iter(running.gateway.Narrate(request))).songs
    assert songs.basis == recommender.RECOMMENDATION_BASIS_POPULARITY
    assert list(songs.unknown_song_ids) == ["nobody"]
    assert len(songs.songs) == 5


def test_one_request_id_is_in_the_logs_of_all_three(running: Running) -> None:
    request = pb.NarrateRequest(seeds=[pb.NarrationSeed(query="respect")], stopping=SHORT)
    list(running.gateway.Narrate(request, metadata=(("x-request-id", "across-3"),)))
    for member in running.members.values():
        assert '"request_id": "across-3"' in member.log.read_text(), member.name
