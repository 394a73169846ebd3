"""How fast songs are learnt, compared with gensim alone, and in how little memory.

    python -m benchmarks.training              words a second, ours and those of bare gensim
    python -m benchmarks.training --million    peak memory for a million playlists of 60 songs

Both learn from the same synthetic playlists with the same settings, by turns, because a machine
that is shared is not equally fast from one minute to the next. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
from gensim.models import Word2Vec
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue, Song
from services.recommender.formats import read_corpus
from services.recommender.model import Hyperparameters
from services.recommender.playlists import Corpus, PlaylistsBuilder
from services.recommender.training import PRESETS, train

LENGTH = 60
EPOCHS = 5
_CHUNK = 10_000


def songs_of(playlists: int) -> int:
    """How many songs there are: twenty plays each, as in real playlists, but at most 100,000."""
    return min(100_000, playlists * LENGTH // 20)


def playlists(count: int) -> Iterator[NDArray[np.int64]]:
    """Chunks [n, LENGTH] of playlists; the k-th most played song is played 1/k as often.

    They are the same each time.
    """
    random = np.random.default_rng(0)
    plays = np.cumsum(1 / np.arange(1, songs_of(count) + 1))
    for begin in range(0, count, _CHUNK):
        shape = (min(_CHUNK, count - begin), LENGTH)
        yield np.searchsorted(plays, plays[-1] * random.random(shape))


def compare(count: int, rounds: int, settings: Hyperparameters) -> dict[str, float]:
    """Words a second of `train` and of `Word2Vec` on lists in memory; medians over the rounds."""
    corpus = _corpus(count)
    ids = [corpus.catalogue.ids[position] for position in range(len(corpus.catalogue))]
    sentences = [[ids[song] for song in playlist] for playlist in corpus.playlists]
    words = settings.epochs * len(corpus.playlists.songs)
    speeds: dict[str, list[float]] = {"segue": [], "gensim": []}
    contestants: list[tuple[str, Callable[[], object]]] = [
        ("segue", lambda: train(corpus, settings)),
        ("gensim", lambda: Word2Vec(sentences, **asdict(settings))),
    ]
    for number in range(rounds):
        for name, learn in contestants:
            speeds[name].append(words / _seconds(learn))
        contestants.reverse()
        ours, theirs = speeds["segue"][-1], speeds["gensim"][-1]
        print(f"round {number + 1}: segue {ours:,.0f}, gensim {theirs:,.0f}, {ours / theirs:.3f}")
    # Of the two in a round, which the machine treats alike.
    ratios = [ours / theirs for ours, theirs in zip(*speeds.values(), strict=True)]
    return {
        "segue_words_per_second": round(median(speeds["segue"])),
        "gensim_words_per_second": round(median(speeds["gensim"])),
        "ratio": round(median(ratios), 3),
    }


def measure_memory(count: int, workers: int) -> dict[str, float]:
    """Peak memory of a process that reads playlists from disk and learns one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), count)
        # A child begins with the peak of its parent, which therefore holds no corpus itself.
        command = [sys.executable, "-m", "benchmarks.training"]
        subprocess.run([*command, f"--learn={folder}", f"--workers={workers}"], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"playlists": count, "plays": count * LENGTH, "peak_rss_gib": round(peak / 2**30, 2)}


def write(folder: Path, count: int) -> None:
    """Write playlists in the Yes.com format, which counts the plays before it tells them."""
    songs = songs_of(count)
    counts = np.zeros(songs, np.int64)
    for chunk in playlists(count):
        counts += np.bincount(chunk.ravel(), minlength=songs)
    with (folder / "train.txt").open("w", encoding="utf-8") as stream:
        print(*range(songs), file=stream)
        print(*counts.tolist(), file=stream)
        for chunk in playlists(count):
            stream.writelines(" ".join(map(str, row)) + " \n" for row in chunk.tolist())
    with (folder / "song_hash.txt").open("w", encoding="utf-8") as stream:
        stream.writelines(f"{song} \tTitle {song}\tArtist {song % 999}\n" for song in range(songs))


def learn(folder: Path, settings: Hyperparameters) -> None:
    """Read playlists and learn from them, and print how long each took."""
    begin = time.perf_counter()
    corpus = read_corpus(folder)
    plays = len(corpus.playlists.songs)
    print(f"read {plays:,} plays in {time.perf_counter() - begin:.0f} s", flush=True)
    seconds = _seconds(lambda: train(corpus, settings))
    print(f"learnt from them in {seconds:.0f} s, {plays / seconds:,.0f} words/s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--million", action="store_true", help="measure memory, not speed")
    parser.add_argument("--playlists", type=int, help="2,000, or a million with --million")
    parser.add_argument("--rounds", type=int, default=45)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--learn", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = replace(PRESETS["radio"], epochs=EPOCHS, workers=options.workers)
    if options.learn:
        learn(options.learn, replace(settings, epochs=1))
    elif options.million:
        print(json.dumps(measure_memory(options.playlists or 1_000_000, options.workers)))
    else:
        print(json.dumps(compare(options.playlists or 2_000, options.rounds, settings)))


def _corpus(count: int) -> Corpus:
    builder = PlaylistsBuilder()
    for chunk in playlists(count):
        for playlist in chunk.tolist():
            builder.append(playlist)
    songs = (
        Song(str(song), f"Title {song}", f"Artist {song % 999}") for song in range(songs_of(count))
    )
    return Corpus("benchmark", Catalogue.from_songs(songs), builder.build())


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
