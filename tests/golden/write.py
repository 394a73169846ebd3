"""Write a golden artifact, or the answers that an existing one is to give.

An artifact below this folder was written once, by the code of its time, and is never written again:
it stands for those that users have. After a new format comes, add one with

    python -m tests.golden.write v2

The same command refreshes the answers of an artifact that is there, which is right only where a
change to ranking or search is meant to change what old models answer.
"""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from services.recommender import artifact
from services.recommender.catalogue import Catalogue, Song
from services.recommender.model import CorpusStatistics, Hyperparameters, SongModel
from services.recommender.ranking import Query, Ranking
from services.recommender.served import ServedModel, open_model
from tests.song_models import song_model

GOLDEN = Path(__file__).parent

DIMENSIONS = 4
SONGS = (
    Song("s10", "Fade to Black", "Metallica", ("metal", "thrash metal"), 1984),
    Song("s2", "Halo", "Beyoncé", ("pop",), 2008),
    Song("s1", "Кукушка", "Кино", ("rock", "post-punk"), 1990),
    Song("s3", "東京", "くるり", ("rock",), 1998),
    Song("s4", "", "Nobody"),
    Song("s5", "The The", "", ("pop",)),
    Song("s6", "Back in Black", "AC/DC", ("rock", "metal"), 1980),
    Song("s7", "Respect", "Aretha Franklin", ("soul",), 1967),
    Song("ß", "Für Elise", "L. v. Beethoven", (), -1810),
    Song("s9", "💿", "🎧", ("pop", "rock")),
)
PLAYLISTS = ((0, 6, 2, 9), (1, 5, 7), (0, 6, 3, 2), (7, 4, 8, 1), (2, 0, 6, 9, 3))
QUERIES = ("metalica black", "кукушка", "respect")


def model() -> SongModel:
    """A model of a few awkward songs; its vectors are random, since nothing depends on them."""
    random = np.random.default_rng(20260102)
    vectors, outputs = random.normal(size=(2, len(SONGS), DIMENSIONS)).tolist()
    return replace(
        song_model(vectors, outputs, PLAYLISTS, play_counts=range(10 * len(SONGS), 0, -10)),
        version="20260102T030405Z-601d0001",
        catalogue=Catalogue.from_songs(SONGS),
        hyperparameters=Hyperparameters(vector_size=DIMENSIONS, min_count=1),
        statistics=CorpusStatistics("golden", len(SONGS), playlists=55, plays=550),
        trained_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def answers(served: ServedModel) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """What a served model says when it is asked for songs by a query, or by another song's id."""
    ids, songs = served.model.catalogue.ids, range(len(served.model))

    def found(query: str) -> list[tuple[str, float]]:
        hits = served.model.search.search(query, offset=0, limit=3)
        return [(ids[hit.position], hit.score) for hit in hits]

    def ranked(answer: Ranking) -> list[tuple[str, float]]:
        rows = zip(answer.positions.tolist(), answer.scores.tolist(), strict=True)
        return [(ids[position], score) for position, score in rows]

    queries = [Query(np.array([song]), np.ones(1), limit=3) for song in songs]
    following = served.ranker.next_songs(queries)
    return {
        "found": {query: found(query) for query in QUERIES},
        "similar": {ids[song]: ranked(served.ranker.similar(song, 3)) for song in songs},
        "next": {ids[song]: ranked(following[song]) for song in songs},
    }


def write(folder: Path) -> None:
    """Write the artifact if there is none, and the answers that it gives now."""
    if not folder.exists():
        artifact.save(model(), folder / "models")
    text = json.dumps(answers(open_model(folder / "models")), ensure_ascii=False, indent=1)
    (folder / "answers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(GOLDEN / sys.argv[1])
