"""Measure search: how much of what people type it finds, how fast, and what it costs to open.

    python -m benchmarks.search [FOLDER]

FOLDER holds a `song_hash.txt` in the Yes.com format; without it the starter songs are searched.
Times are processor times of one thread, memory is what Linux counts as anonymous.
"""

import argparse
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from services.recommender.catalogue import Catalogue
from services.recommender.formats.yes import read_songs
from services.recommender.search import SongSearch
from services.recommender.starter.songs import read_songs as read_starter_songs
from tests.unit.recommender.judged_queries import JudgedQuery, judged_queries, shares_found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="songs in the Yes.com format")
    parser.add_argument("--queries", type=int, default=300, help="how many of each kind")
    arguments = parser.parse_args()
    if arguments.folder:
        catalogue = read_songs(arguments.folder)
    else:
        catalogue = Catalogue.from_songs(read_starter_songs())
    began = time.thread_time()
    search = SongSearch.from_catalogue(catalogue)
    console = Console()
    console.print(f"{len(catalogue):,} songs, prepared in {time.thread_time() - began:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        console.print(_opened(catalogue, search, Path(folder)))
    queries = judged_queries(catalogue, arguments.queries)
    console.print(_latency(search, [query.text for query in chain(*queries.values())]))
    console.print(_quality(search, queries))


def _opened(catalogue: Catalogue, search: SongSearch, folder: Path) -> str:
    for name, array in (catalogue.arrays() | search.arrays()).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        seconds, kib, size = fresh.submit(_cost_of_opening, folder).result()
    mapped = f"{size / 1e6:.1f} MB in files"
    return f"{mapped}, opened in {seconds * 1e3:.1f} ms with {kib} KiB of private memory"


def _cost_of_opening(folder: Path) -> tuple[float, int, int]:
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
    catalogue = Catalogue(arrays)
    memory, began = _anonymous_kib(), time.thread_time()
    search = SongSearch(catalogue, arrays)
    seconds, memory = time.thread_time() - began, _anonymous_kib() - memory
    return seconds, memory, sum(array.nbytes for array in search.arrays().values())


def _anonymous_kib() -> int:
    [size] = re.findall(r"Anonymous:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())
    return int(size)


def _latency(search: SongSearch, texts: list[str]) -> str:
    times = []
    for text in texts:
        began = time.thread_time()
        search.search(text, offset=0, limit=10)
        times.append((time.thread_time() - began) * 1e3)
    p50, p99 = np.percentile(times, (50, 99))
    return (
        f"{len(texts):,} queries: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(times):.1f} ms"
    )


def _quality(search: SongSearch, queries: dict[str, list[JudgedQuery]]) -> Table:
    table = Table("kind of query", "queries", "hit@1", "hit@5")
    for kind, some in queries.items():
        if some:
            shares = shares_found(search, some)
            row = f"{shares.first:.3f}", f"{shares.among_five:.3f}"
            table.add_row(kind, str(len(some)), *row)
    return table


if __name__ == "__main__":
    main()
