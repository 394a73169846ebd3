"""The recommender changes its model while it serves, and nobody notices but by the answers."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1 import recommender_service_pb2_grpc

from cli.health import Health, ask_health
from cli.stack import Member
from services.recommender import artifact
from services.recommender.versions import Versions
from tests.song_models import numbered_model
from tests.stack.conftest import StartServer
from tests.stack.test_start_up import Segue

if TYPE_CHECKING:  # this class stands in the type stubs only
    from segue.recommender.v1.recommender_service_pb2_grpc import RecommenderServiceAsyncStub

VERSIONS = ("a", "b", "c", "d")
BROKEN = "e"
SWAPS = 50
REQUESTS_A_SECOND = 200
PATIENCE_S = 30.0

SEEDS = [pb.Seed(song_id=f"{number}@{version}") for version in VERSIONS for number in (0, 1)]
IDS = [seed.song_id for seed in SEEDS]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Versions whose songs differ: `a` is current, after all others, and `e` is broken."""
    folder = tmp_path / "models"
    for version in (BROKEN, *reversed(VERSIONS)):
        artifact.save(numbered_model(version), folder)
    file = folder / BROKEN / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return folder


Recommender = Callable[..., AbstractContextManager[Member]]


@pytest.fixture
def recommender(start: StartServer, models: Path) -> Recommender:
    """Start a recommender that looks for another version often."""
    return lambda *flags: start("recommender", f"--models={models}", "--watch-s=0.05", *flags)


def versions_of(song_ids: Iterable[str]) -> set[str]:
    return {song_id.partition("@")[2] for song_id in song_ids}


def check(version: str, known: Iterable[str], unknown: Iterable[str]) -> str:
    """What the answer knows is of the version that it names, and what it does not is of others."""
    assert versions_of(known) == {version}
    assert versions_of(unknown) == {*VERSIONS} - {version}
    return version


async def recommend(stub: "RecommenderServiceAsyncStub") -> str:
    answer = await stub.RecommendSongs(pb.RecommendSongsRequest(seeds=SEEDS, explain=True))
    assert answer.basis == pb.RECOMMENDATION_BASIS_SEEDS
    songs = [scored.song.id for scored in answer.songs]
    reasons = [reason.seed_song_id for scored in answer.songs for reason in scored.reasons]
    return check(answer.model_version, songs + reasons, answer.unknown_song_ids)


async def recommend_in_a_batch(stub: "RecommenderServiceAsyncStub") -> str:
    requests = [pb.RecommendSongsRequest(seeds=SEEDS, limit=limit) for limit in (1, 5)]
    answer = await stub.BatchRecommendSongs(pb.BatchRecommendSongsRequest(requests=requests))
    for one in answer.responses:
        songs = [scored.song.id for scored in one.songs]
        assert check(one.model_version, songs, one.unknown_song_ids) == answer.model_version
    return answer.model_version


async def search(stub: "RecommenderServiceAsyncStub") -> str:
    answer = await stub.SearchSongs(pb.SearchSongsRequest(query="song band"))
    assert versions_of(match.song.id for match in answer.matches) == {answer.model_version}
    assert {match.song.artist for match in answer.matches} == {f"Band {answer.model_version}"}
    return answer.model_version


async def get(stub: "RecommenderServiceAsyncStub") -> str:
    answer = await stub.GetSongs(pb.GetSongsRequest(song_ids=IDS))
    return check(answer.model_version, [song.id for song in answer.songs], answer.unknown_song_ids)


async def ask_without_pause(stub: "RecommenderServiceAsyncStub", stop: asyncio.Event) -> list[str]:
    """Ask so many times a second until told to stop; gives the version of every answer."""
    answers: list[asyncio.Task[str]] = []
    begin = time.perf_counter()
    for ask in cycle((recommend, get, search, recommend_in_a_batch)):
        if stop.is_set():
            return await asyncio.gather(*answers)
        answers.append(asyncio.create_task(ask(stub)))
        await asyncio.sleep(begin + len(answers) / REQUESTS_A_SECOND - time.perf_counter())
    raise AssertionError


async def until(
    stub: "RecommenderServiceAsyncStub", condition: Callable[[pb.GetModelResponse], bool]
) -> pb.GetModelResponse:
    """Wait until what the server says of its model is so, and give it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        told = await stub.GetModel(pb.GetModelRequest())
        if condition(told):
            return told
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.01)


async def swap(models: Path, stub: "RecommenderServiceAsyncStub", version: str) -> None:
    Versions(models).activate(version)
    await until(stub, lambda told: told.model.version == version)


async def test_fifty_swaps_under_load_fail_no_request_and_mix_no_answer(
    recommender: Recommender, models: Path
) -> None:
    with recommender() as member:
        async with grpc.aio.insecure_channel(member.address) as channel:
            stub: RecommenderServiceAsyncStub
            stub = recommender_service_pb2_grpc.RecommenderServiceStub(channel)
            stop = asyncio.Event()
            asking = asyncio.create_task(ask_without_pause(stub, stop))
            for number in range(1, SWAPS // 2):
                await swap(models, stub, VERSIONS[number % len(VERSIONS)])
            serving = VERSIONS[(SWAPS // 2 - 1) % len(VERSIONS)]
            Versions(models).activate(BROKEN)
            told = await until(stub, lambda told: len(told.refused_versions) > 0)
            health = await asyncio.to_thread(ask_health, member.address)
            for number in range(SWAPS // 2, SWAPS):
                await swap(models, stub, VERSIONS[number % len(VERSIONS)])
            stop.set()
            answered = Counter(await asking)
            assert (await asyncio.to_thread(ask_health, member.address)).detail == ""
    (refused,) = told.refused_versions
    assert (told.model.version, refused.version) == (serving, BROKEN)
    assert "e/vectors.npy: was damaged" in refused.reason
    assert refused.refuse_time.ToDatetime() > told.model.train_time.ToDatetime()
    assert health == Health(serving=True, detail=refused.reason)
    assert answered.keys() == {*VERSIONS}


def mapped_versions(member: Member, models: Path) -> set[str]:
    """The versions that a server's memory maps are of."""
    maps = Path(f"/proc/{member.process.pid}/maps").read_text()
    return set(re.findall(rf"{re.escape(str(models))}/(\w+)/\w+\.npy", maps))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
async def test_the_old_models_maps_go_with_its_last_request(
    recommender: Recommender, models: Path
) -> None:
    with recommender() as member:
        async with grpc.aio.insecure_channel(member.address) as channel:
            stub: RecommenderServiceAsyncStub
            stub = recommender_service_pb2_grpc.RecommenderServiceStub(channel)
            for ask in (recommend, get, search, recommend_in_a_batch):
                assert await ask(stub) == "a"
            assert mapped_versions(member, models) == {"a"}
            Versions(models).activate("b")
            deadline = time.monotonic() + PATIENCE_S
            while mapped_versions(member, models) != {"b"}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)


def model_of(member: Member) -> pb.GetModelResponse:
    with grpc.insecure_channel(member.address) as channel:
        stub = recommender_service_pb2_grpc.RecommenderServiceStub(channel)
        return stub.GetModel(pb.GetModelRequest())


def wait_for(member: Member, version: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while model_of(member).model.version != version:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_line_changes_what_a_running_server_serves(
    recommender: Recommender, models: Path, segue: Segue
) -> None:
    with recommender() as member:
        assert segue("models", "activate", "c", f"--models={models}").returncode == 0
        wait_for(member, "c")
        assert segue("models", "rollback", f"--models={models}").returncode == 0
        wait_for(member, "a")


def test_a_server_whose_version_is_broken_starts_with_the_one_before_and_says_so(
    recommender: Recommender, models: Path, segue: Segue
) -> None:
    Versions(models).activate(BROKEN)
    with recommender() as member:
        told = model_of(member)
        assert told.model.version == "a"
        assert [refused.version for refused in told.refused_versions] == [BROKEN]
        done = segue("health", member.address)
    assert done.returncode == 0
    assert done.stdout == f"serving {told.refused_versions[0].reason}\n"


def test_a_server_that_was_asked_for_a_version_keeps_to_it(
    recommender: Recommender, models: Path
) -> None:
    with recommender("--version=b") as member:
        Versions(models).activate("c")
        time.sleep(0.5)
        assert model_of(member).model.version == "b"
