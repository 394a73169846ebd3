"""The songs that come with the project: real ones, written down by hand in `songs.csv`."""

import csv
from importlib import resources

from services.recommender.catalogue import Song


def read_songs() -> tuple[Song, ...]:
    """Read the 600 songs, ordered by artist and then title.

    Years are those of a song's first release, alone or on its album.
    """
    file = resources.files(__package__) / "songs.csv"
    return tuple(
        Song(
            id=row["id"],
            title=row["title"],
            artist=row["artist"],
            tags=tuple(row["tags"].split(";")),
            year=int(row["year"]),
        )
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    )
