"""How fast songs are recommended, next to an RPC that does nothing and to gensim behind gRPC.

    python -m benchmarks.recommender [--seconds 5] [--rounds 3]

All of it is measured in one run, by turns, on a model of 75,000 songs and 64 dimensions that is
trained on synthetic playlists. The load comes from a Node client, which costs the machine far less
than a Python one would. The last line is JSON.
"""

import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import grpc
import numpy as np
import psutil
import typer
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from segue.recommender.v1 import recommender_service_pb2 as pb

from benchmarks.index import million
from cli.health import ask_health
from cli.stack import Ports, server
from services.recommender import artifact
from services.recommender.catalogue import Catalogue, Song
from services.recommender.model import SongModel
from services.recommender.playlists import Corpus, Playlists
from services.recommender.training import PRESETS, train

SONGS, PLAYLISTS, LENGTH = 75_000, 60_000, 40
STATIONS = 300
SEEDS, LIMIT, BATCH = 5, 10, 64
REQUESTS = 2_000
IN_FLIGHT, BATCHES_IN_FLIGHT = 64, 8
"""As many as leave no server waiting for the client, whose speed would be measured too."""
SERVICE = "/segue.recommender.v1.RecommenderService"


def corpus() -> Corpus:
    """Playlists of 300 stations, each with its own songs, some of which all of them play.

    A few songs are played far more often than the others, and each has 32 plays in the mean, as
    in large collections of radio playlists. The same each time.
    """
    random = np.random.default_rng(0)
    fame = random.zipf(1.3, SONGS).clip(max=1000).astype(float) ** 0.5
    station_of = random.integers(0, STATIONS, SONGS)
    lists: list[list[int]] = []
    for station in range(STATIONS):
        pool = np.flatnonzero((station_of == station) | (random.random(SONGS) < 0.003))
        odds = fame[pool] / fame[pool].sum()
        shape = (PLAYLISTS // STATIONS, LENGTH)
        lists += random.choice(pool, shape, p=odds).tolist()
    songs = (
        Song(str(k), f"Song number {k}", f"Artist {k % 9000}", ("rock", "pop", "2000s"))
        for k in range(SONGS)
    )
    return Corpus("synthetic", Catalogue.from_songs(songs), Playlists.from_lists(lists))


def single_requests(model: SongModel) -> list[pb.RecommendSongsRequest]:
    """Requests with seeds as listeners have them: successive songs of a playlist."""
    random = np.random.default_rng(1)
    songs, ids = model.continuations.songs, model.catalogue.ids
    begins = random.integers(0, len(songs) // LENGTH, REQUESTS) * LENGTH
    begins += random.integers(0, LENGTH - SEEDS, REQUESTS)
    return [
        pb.RecommendSongsRequest(
            seeds=[pb.Seed(song_id=ids[int(song)]) for song in songs[begin : begin + SEEDS]],
            limit=LIMIT,
        )
        for begin in begins
    ]


class Load:
    """Requests in files, sent by a Node process."""

    def __init__(self, folder: Path, singles: list[pb.RecommendSongsRequest], seconds: float):
        batches = [
            pb.BatchRecommendSongsRequest(requests=singles[begin : begin + BATCH])
            for begin in range(0, len(singles) - BATCH, BATCH)
        ]
        self._files = {
            "single": _written(folder / "single.json", singles),
            "batch": _written(folder / "batch.json", batches),
        }
        self._seconds = seconds

    def run(self, port: int, method: str, requests: str, concurrency: int) -> dict[str, float]:
        """Answers a second and milliseconds, as `load.js` prints them."""
        command = [
            str(Path(sys.executable).with_name("node")),
            str(Path(__file__).with_name("load.js")),
            f"127.0.0.1:{port}",
            f"{SERVICE}/{method}",
            str(self._files[requests]),
            str(concurrency),
            str(self._seconds),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answer: dict[str, float] = json.loads(done.stdout)
        if answer["failures"]:
            raise RuntimeError(f"{answer['failures']} calls of {method} failed")
        return answer


def _written(file: Path, requests: Sequence[Message]) -> Path:
    texts = [base64.b64encode(request.SerializeToString()).decode() for request in requests]
    file.write_text(json.dumps(texts))
    return file


@contextmanager
def serving(name: str, models: Path) -> Iterator[int]:
    """One of the servers of `benchmarks.servers`; gives its port."""
    port = Ports.free().gateway
    command = [sys.executable, "-m", "benchmarks.servers", name, str(port), str(models)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
        if name == "segue":
            while not ask_health(f"127.0.0.1:{port}").serving:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def throughput(load: Load, models: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds of each RPC's figures; the servers run one at a time."""
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        with serving("segue", models) as port:
            for name, method, requests, concurrency in (
                ("echo", "GetModel", "single", IN_FLIGHT),
                ("segue", "RecommendSongs", "single", IN_FLIGHT),
                ("batch", "BatchRecommendSongs", "batch", BATCHES_IN_FLIGHT),
            ):
                runs.setdefault(name, []).append(load.run(port, method, requests, concurrency))
        with serving("gensim", models) as port:
            run = load.run(port, "RecommendSongs", "single", IN_FLIGHT)
            runs.setdefault("gensim", []).append(run)
    return {
        name: {figure: median(run[figure] for run in mine) for figure in mine[0]}
        for name, mine in runs.items()
    }


def start_seconds(models: Path, logs: Path) -> float:
    """From the command `segue serve recommender` to health SERVING; median of five."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        port = Ports.free().recommender
        with server("recommender", port, logs, f"--models={models}", "--metrics-port=null"):
            while not ask_health(f"127.0.0.1:{port}").serving:
                time.sleep(0.01)
            times.append(time.perf_counter() - begin)
    return median(times)


def process_mb(load: Load, models: Path, logs: Path) -> float:
    """Memory of its own of the largest of three processes of one server, after some load.

    Pages of the mapped model are not: they are the system's cache, whichever process read them.
    """
    port = Ports.free().recommender
    flags = (f"--models={models}", "--metrics-port=null", "--processes=3")
    with server("recommender", port, logs, *flags) as member:
        while not ask_health(member.address).serving:
            time.sleep(0.05)
        load.run(port, "RecommendSongs", "single", IN_FLIGHT)
        workers = psutil.Process(member.process.pid).children()
        own = [sum(m.private_dirty for m in worker.memory_maps()) for worker in workers]
        return float(max(own)) / 2**20


def measure(
    seconds: Annotated[float, typer.Option(help="How long each load lasts.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="How often each is repeated.")] = 3,
) -> None:
    """Train, serve, measure, and print a table and a line of JSON."""
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory() as scratch:
        models, logs = Path(scratch) / "models", Path(scratch) / "logs"
        quick = replace(PRESETS["radio"], epochs=1, workers=2)
        console.print(f"training on {SONGS:,} songs, {PLAYLISTS:,} synthetic playlists")
        model = train(corpus(), quick)
        artifact.save(model, models)
        load = Load(Path(scratch), single_requests(model), seconds)
        console.print("measuring starts and memory")
        start, memory = start_seconds(models, logs), process_mb(load, models, logs)
        console.print("measuring throughput")
        rates = throughput(load, models, rounds)
    console.print("building an index of a million songs")
    nearest = million()
    plain = [nearest.kinds["after five songs"], nearest.kinds["after one song"]]
    batched = rates["batch"]["rps"] * BATCH / rates["segue"]["rps"]
    console.print(_table(rates))
    console.print(
        json.dumps(
            {
                "echo_rps": round(rates["echo"]["rps"]),
                "segue_rps": round(rates["segue"]["rps"]),
                "gensim_rps": round(rates["gensim"]["rps"]),
                "segue_p99_ms": round(rates["segue"]["p99_ms"], 2),
                "echo_p99_ms": round(rates["echo"]["p99_ms"], 2),
                "batch64_speedup": round(batched, 2),
                "million_recall": round(min(timing.recall for timing in plain), 4),
                "million_ms": round(max(timing.median_ms for timing in plain), 3),
                "start_seconds": round(start, 2),
                "process_mb": round(memory, 1),
            }
        )
    )


def _table(rates: dict[str, dict[str, float]]) -> Table:
    table = Table("", "answers/s", "p50 ms", "p99 ms", "of the echo", title="one process")
    names = {
        "echo": "an RPC that does nothing",
        "segue": f"RecommendSongs, {SEEDS} seeds, {LIMIT} songs",
        "batch": f"BatchRecommendSongs of {BATCH}",
        "gensim": "gensim most_similar behind gRPC",
    }
    for key, name in names.items():
        rate = rates[key]
        table.add_row(
            name,
            f"{rate['rps']:,.0f}",
            f"{rate['p50_ms']:.2f}",
            f"{rate['p99_ms']:.2f}",
            f"{rate['rps'] / rates['echo']['rps']:.2f}",
        )
    return table


if __name__ == "__main__":
    typer.run(measure)
