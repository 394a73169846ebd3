"""Made-up radio stations: which genres each one plays, and from which years."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.recommender.catalogue import Song


@dataclass(frozen=True, slots=True)
class Station:
    """A radio format.

    Attributes:
        name: what people call the format.
        genres: how much of each tag the station plays; a tag that is not named counts nothing.
        first_year: the year of the oldest song that it plays.
        last_year: the year of the newest.
    """

    name: str
    genres: Mapping[str, float]
    first_year: int
    last_year: int

    def fit(self, song: Song) -> float:
        """How well a song suits the station; 0 for one that it never plays.

        The mean weight of the song's tags, squared: a song that is only half of the station's
        genres is played a quarter as often as one that is wholly of them.
        """
        if song.year is None or not self.first_year <= song.year <= self.last_year:
            return 0.0
        weights = [self.genres.get(tag, 0.0) for tag in song.tags]
        return (sum(weights) / len(weights)) ** 2 if weights else 0.0


STATIONS = (
    Station("Metal", {"metal": 1, "thrash metal": 1, "hard rock": 0.6}, 1970, 2026),
    Station("Hard rock", {"hard rock": 1, "metal": 0.6, "classic rock": 0.5}, 1968, 1999),
    Station(
        "Active rock",
        {"metal": 1, "hard rock": 0.8, "grunge": 0.8, "alternative": 0.7, "rock": 0.5},
        1986,
        2026,
    ),
    Station(
        "Classic rock",
        {"classic rock": 1, "rock": 0.7, "hard rock": 0.5, "psychedelic rock": 0.6, "blues": 0.3},
        1964,
        1989,
    ),
    Station(
        "Progressive and psychedelic rock",
        {"progressive rock": 1, "psychedelic rock": 1, "classic rock": 0.4},
        1965,
        2015,
    ),
    Station(
        "Oldies", {"rock and roll": 1, "pop": 0.6, "motown": 0.4, "folk rock": 0.4}, 1953, 1969
    ),
    Station("Motown and soul", {"motown": 1, "soul": 1, "r&b": 0.4}, 1957, 1976),
    Station("Funk and disco", {"funk": 1, "disco": 1, "soul": 0.3}, 1965, 2026),
    Station("Quiet storm", {"r&b": 1, "soul": 0.7, "funk": 0.2}, 1975, 2026),
    Station("Old-school hip hop", {"hip hop": 1, "r&b": 0.3}, 1979, 2003),
    Station("Hip hop and R&B", {"hip hop": 1, "r&b": 0.7}, 1996, 2026),
    Station("Eighties pop", {"pop": 1, "synth-pop": 0.9, "new wave": 0.8, "rock": 0.3}, 1977, 1990),
    Station(
        "New wave and post-punk",
        {"new wave": 1, "post-punk": 1, "synth-pop": 0.6, "punk": 0.4},
        1974,
        1992,
    ),
    Station("Punk", {"punk": 1, "post-punk": 0.4, "alternative": 0.2}, 1969, 2026),
    Station(
        "Nineties alternative",
        {"grunge": 1, "alternative": 1, "rock": 0.5, "britpop": 0.4},
        1986,
        2003,
    ),
    Station("Britpop", {"britpop": 1, "indie": 0.7, "alternative": 0.5}, 1983, 2005),
    Station("College radio", {"indie": 1, "alternative": 0.7, "post-punk": 0.7}, 1977, 2001),
    Station("Indie", {"indie": 1, "alternative": 0.5, "folk": 0.4, "synth-pop": 0.3}, 2000, 2026),
    Station("Electronic", {"electronic": 1, "house": 0.5, "synth-pop": 0.4}, 1973, 2026),
    Station("Club", {"house": 1, "electronic": 0.7, "disco": 0.5}, 1975, 2026),
    Station("Top 40", {"pop": 1, "r&b": 0.6, "synth-pop": 0.6, "electronic": 0.4}, 1996, 2026),
    Station(
        "Adult contemporary",
        {"soft rock": 1, "pop": 0.6, "singer-songwriter": 0.6},
        1970,
        2015,
    ),
    Station(
        "Coffeehouse",
        {"folk": 1, "singer-songwriter": 1, "folk rock": 0.9, "indie": 0.3},
        1963,
        2026,
    ),
    Station("Country", {"country": 1, "folk": 0.3, "singer-songwriter": 0.2}, 1949, 2026),
    Station("Reggae", {"reggae": 1}, 1968, 2026),
    Station("Latin", {"latin": 1}, 1958, 2026),
    Station("Jazz", {"jazz": 1, "vocal jazz": 0.5}, 1937, 2026),
    Station("Standards", {"vocal jazz": 1, "jazz": 0.4, "pop": 0.1}, 1937, 1970),
    Station("Blues", {"blues": 1, "rock and roll": 0.2}, 1937, 2026),
    Station("K-pop", {"k-pop": 1, "pop": 0.2}, 2007, 2026),
)
"""Thirty formats; between them they play every song that comes with the project."""
