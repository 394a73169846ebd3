from hypothesis import given
from hypothesis import strategies as st
from segue.gateway.v1.gateway_service_pb2 import NarrateRequest, NarrationSeed
from segue.generator.v1.generation_pb2 import Stopping, TokenIds
from segue.generator.v1.generator_service_pb2 import GenerateRequest
from segue.recommender.v1.recommender_service_pb2 import RecommendSongsRequest, Seed

from serving.oneofs import conflicting_oneofs

PROMPT = GenerateRequest(prompt="play").SerializeToString()
TOKENS = GenerateRequest(token_ids=TokenIds(ids=[1])).SerializeToString()


def test_a_frame_that_sets_two_members_is_found() -> None:
    assert conflicting_oneofs(PROMPT + TOKENS, GenerateRequest.DESCRIPTOR) == ["input"]


def test_one_member_set_twice_is_no_conflict() -> None:
    assert conflicting_oneofs(PROMPT + PROMPT, GenerateRequest.DESCRIPTOR) == []


def test_a_conflict_in_a_list_is_told_with_its_index() -> None:
    good = NarrationSeed(song_id="1").SerializeToString()
    bad = good + NarrationSeed(query="one").SerializeToString()
    frame = b"".join(b"\x0a" + bytes([len(seed)]) + seed for seed in (good, bad))
    assert conflicting_oneofs(frame, NarrateRequest.DESCRIPTOR) == ["seeds[1].song"]


def test_optional_fields_are_no_oneofs() -> None:
    frame = RecommendSongsRequest(limit=3, seeds=[Seed(song_id="1", weight=2)])
    descriptor = RecommendSongsRequest.DESCRIPTOR
    assert conflicting_oneofs(frame.SerializeToString(), descriptor) == []


@given(st.text(max_size=50), st.integers(0, 2**31 - 1), st.lists(st.text(max_size=9), max_size=5))
def test_what_a_client_library_writes_never_conflicts(
    prompt: str, tokens: int, stop: list[str]
) -> None:
    frame = GenerateRequest(prompt=prompt, stopping=Stopping(max_new_tokens=tokens, stop=stop))
    assert conflicting_oneofs(frame.SerializeToString(), GenerateRequest.DESCRIPTOR) == []
