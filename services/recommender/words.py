"""The words of titles, artists and queries, as search compares them."""

import re
import unicodedata

_LATIN = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ð": "d", "đ": "d", "þ": "th", "ł": "l", "\u0131": "i"}
)
"""Letters that people type without their stroke, but that Unicode does not take apart."""

_SPELLINGS = [
    (re.compile(pattern), written_out)
    for pattern, written_out in (
        (r"&", " and "),
        (r"\bw/", " feat "),
        (r"[(\[]\s*with\b", " feat with "),  # mostly a subtitle, so its "with" stays a word
        (r"(?<=[^\W\d_])!(?=[^\W\d_])", "i"),  # P!nk
        (r"(?<=[^\W\d_])\$|\$(?=[^\W\d_])", "s"),  # Ke$ha
        (r"\.{2,}", " "),
        (r"['`\u2018\u2019\u02bc.]", ""),  # Don't, T.I.
    )
]
_WORD = re.compile(r"[^\W_]+")
_AND = re.compile(r"(?<=\w\w )n(?= \w\w)")  # rock 'n' roll, but not R 'n' B
_GUEST_MARKS = frozenset({"feat", "ft", "featuring"})


def words(text: str) -> list[str]:
    """The words of a text, without case, accents, punctuation, the mark of guests, and "the".

    A text of nothing but "the" keeps it. Signs that stand for letters or words become those.

    >>> words("The Beyoncé's & T.I. (feat. P!nk)")
    ['beyonces', 'and', 'ti', 'pink']
    """
    host, guests = _parts(text)
    return _without_the(host + guests)


def words_of_host_and_guests(text: str) -> tuple[list[str], list[str]]:
    """The words of a title or artist before and after its "feat.", "ft.", "w/" or "(with".

    >>> words_of_host_and_guests("Gucci Time (w/ Swizz Beatz)")
    (['gucci', 'time'], ['swizz', 'beatz'])
    """
    host, guests = _parts(text)
    return _without_the(host), _without_the(guests)


def _parts(text: str) -> tuple[list[str], list[str]]:
    found = _plain(text)
    # With nothing behind it, it is a name: Little Feat.
    marks = [k for k, word in enumerate(found[:-1]) if word in _GUEST_MARKS]
    if not marks:
        return found, []
    guests = [word for k, word in enumerate(found) if k > marks[0] and k not in marks]
    return found[: marks[0]], guests


def _plain(text: str) -> list[str]:
    letters = unicodedata.normalize("NFKD", text.replace("\u00b4", "'"))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    plain = plain.casefold().translate(_LATIN)
    for pattern, written_out in _SPELLINGS:
        plain = pattern.sub(written_out, plain)
    return _AND.sub("and", " ".join(_WORD.findall(plain))).split()


def _without_the(found: list[str]) -> list[str]:
    return [word for word in found if word != "the"] or found
