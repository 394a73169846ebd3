"""Queries like those that people type, made from songs, so that each is known to mean one."""

import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from random import Random

from services.recommender.catalogue import Catalogue, Song
from services.recommender.search import SongSearch

_GUESTS = re.compile(
    r"\s*[(\[]?\s*(?:\bw/|\b(?:feat|ft|featuring)\b\.?|(?<=[(\[])with\b)\s*([^)\]]+)[)\]]?", re.I
)

TITLE_ALONE = "title alone"
"""Queries of this kind mean any song of the title."""


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query, and the positions of the songs that it means."""

    text: str
    meant: frozenset[int]


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of queries of which a song that is meant comes first, and among the first five."""

    first: float
    among_five: float


@dataclass(frozen=True, slots=True)
class _Named:
    title: str
    artist: str
    guests: tuple[str, ...]

    @property
    def both(self) -> str:
        return f"{self.title} {self.artist}"


_Corruption = Callable[[_Named, Random], str | None]
"""Makes a query of a song's name; None where the name has nothing to corrupt that way."""


def judged_queries(catalogue: Catalogue, count: int, seed: int = 0) -> dict[str, list[JudgedQuery]]:
    """At most `count` queries of each kind in `CORRUPTIONS`, each made of another song."""
    random = Random(seed)
    names = [_named(catalogue[position]) for position in range(len(catalogue))]
    alike = defaultdict(set)
    for position, name in enumerate(names):
        for meaning in (_meaning(name), _meaning(name)[:1]):
            alike[meaning].add(position)
    whole = [name for name in names if all(_meaning(name))]
    queries = {}
    for kind, corrupt in CORRUPTIONS.items():
        parts = 1 if kind.startswith(TITLE_ALONE) else 2
        some = random.sample(whole, len(whole))
        made = ((text, name) for name in some if (text := corrupt(name, random)))
        queries[kind] = [
            JudgedQuery(text, frozenset(alike[_meaning(name)[:parts]]))
            for text, name in islice(made, count)
        ]
    return queries


def shares_found(search: SongSearch, queries: list[JudgedQuery]) -> Shares:
    """How often search finds what is meant."""
    ranks = []
    for query in queries:
        hits = search.search(query.text, offset=0, limit=5)
        ranks.append([hit.position in query.meant for hit in hits])
    first = sum(any(rank[:1]) for rank in ranks)
    return Shares(first / len(queries), sum(map(any, ranks)) / len(queries))


def _named(song: Song) -> _Named:
    match = _GUESTS.search(song.title)
    guests = re.split(r"\s*[,&]\s*", match[1].strip()) if match else ()
    return _Named(_GUESTS.sub("", song.title), _GUESTS.sub("", song.artist), tuple(guests))


def _meaning(name: _Named) -> tuple[str, ...]:
    """Songs with the same title and artist mean the same to who types those."""
    return _letters(name.title), _letters(name.artist)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]|\bthe\b", "", text.casefold().replace("&", " and "))


def _if_other(text: str, original: str) -> str | None:
    return text if text != original else None


def _misspelt(text: str, random: Random) -> str | None:
    """With one letter inside one word of four or more left out, doubled, changed or swapped."""
    places = [match.start() for match in re.finditer(r"(?<=[^\W\d_])[^\W\d_]{2}(?=[^\W\d_])", text)]
    if not places:
        return None
    place = random.choice(places)
    before, one, two, behind = text[:place], text[place], text[place + 1], text[place + 2 :]
    other = random.choice(string.ascii_lowercase)
    middle = random.choice([two, one + one + two, other + two, two + one])
    return before + middle + behind


def _title_and_artist_misspelt(name: _Named, random: Random) -> str | None:
    title, artist = _misspelt(name.title, random), _misspelt(name.artist, random)
    return f"{title} {artist}" if title and artist else None


def _three_typos(name: _Named, random: Random) -> str | None:
    once = _title_and_artist_misspelt(name, random)
    return once and _misspelt(once, random)


def _unaccented(name: _Named, _: Random) -> str | None:
    plain = unicodedata.normalize("NFKD", name.both).encode("ascii", "ignore").decode()
    return _if_other(plain, name.both)


def _shuffled(name: _Named, random: Random) -> str:
    parts = name.both.split()
    return " ".join(random.sample(parts, len(parts)))


def _joined(name: _Named, random: Random) -> str | None:
    gaps = [match.span() for match in re.finditer(r"(?<=\w)\s+(?=\w)", name.title)]
    if not gaps:
        return None
    begin, end = random.choice(gaps)
    return f"{name.title[:begin]}{name.title[end:]} {name.artist}"


def _split(name: _Named, random: Random) -> str | None:
    places = [match.end() for match in re.finditer(r"[^\W\d_]{3}(?=[^\W\d_]{3})", name.both)]
    if not places:
        return None
    place = random.choice(places)
    return f"{name.both[:place]} {name.both[place:]}"


def _without(pattern: str, instead: str = "") -> _Corruption:
    return lambda name, _: _if_other(re.sub(pattern, instead, name.both, flags=re.I), name.both)


CORRUPTIONS: dict[str, _Corruption] = {
    "title and artist": lambda name, _: name.both,
    "artist first": lambda name, _: f"{name.artist} {name.title}",
    "words in any order": _shuffled,
    "one typo": lambda name, random: _misspelt(name.both, random),
    "a typo in title and artist": _title_and_artist_misspelt,
    "three typos": _three_typos,
    "accents left out": _unaccented,
    '"the" left out': _without(r"\bthe\b\s*"),
    '"the" too much': lambda name, _: f"the {name.title} the {name.artist}",
    '"&" written out': _without("&", "and"),
    '"and" as "&"': _without(r"\band\b", "&"),
    '"and" left out': _without(r"\s(&|and)(?=\s)"),
    "punctuation left out": _without(r"[^\w\s]"),
    "punctuation as spaces": _without(r"[^\w\s]", " "),
    "two words joined": _joined,
    "a word split": _split,
    "guests left out": lambda name, _: name.both if name.guests else None,
    "guests named": lambda name, _: (
        f"{name.both} feat. {' & '.join(name.guests)}" if name.guests else None
    ),
    "guests after ft": lambda name, _: (
        f"{name.both} ft {' '.join(name.guests)}" if name.guests else None
    ),
    "guests after with": lambda name, _: (
        f"{name.both} with {name.guests[0]}" if name.guests else None
    ),
    "a guest for the artist": lambda name, _: (
        f"{name.title} {name.guests[0]}" if name.guests else None
    ),
    "last name": lambda name, _: f"{name.title} {name.artist.split()[-1]}",
    TITLE_ALONE: lambda name, _: name.title,
    f"{TITLE_ALONE}, one typo": lambda name, random: _misspelt(name.title, random),
}
