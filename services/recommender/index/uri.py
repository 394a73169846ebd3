"""The address of an index: which kind, where or how built, and how it is searched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from services.recommender.index.interface import VectorIndexError


class IndexURIError(VectorIndexError):
    """No index can be had by this URI; the message says why and what to do."""

    def __init__(self, uri: str, problem: str) -> None:
        super().__init__(f"{uri}: {problem}")


@dataclass(frozen=True, slots=True)
class IndexURI:
    """An index's URI in its parts.

    >>> uri = IndexURI.parse("faiss://IVF1024,Flat?nprobe=32")
    >>> uri.scheme, uri.target, uri.parameters
    ('faiss', 'IVF1024,Flat', {'nprobe': 32.0})

    Attributes:
        text: The URI as it was given.
        scheme: What is before `://`.
        target: What is between `://` and `?`. It is taken as it is: `urllib.parse.urlsplit` would
            stumble over the brackets and colons that targets may hold.
        parameters: What is behind `?`; positive numbers, each name once.
    """

    text: str
    scheme: str
    target: str
    parameters: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> "IndexURI":
        """Take a URI apart.

        Raises:
            IndexURIError: it has no `://`, or its parameters are no positive numbers.
        """
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise IndexURIError(text, "is no index; give exact://, faiss://… or qdrant://…")
        target, _, query = rest.partition("?")
        return cls(text, scheme, target, _parameters(text, query))


def _parameters(text: str, query: str) -> dict[str, float]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        parameters = {name: float(value) for name, value in pairs}
    except ValueError as error:
        problem = f"what is behind ? must be name=number, joined by &: {error}"
        raise IndexURIError(text, problem) from None
    for name, value in parameters.items():
        if not 0 < value < math.inf:
            raise IndexURIError(text, f"{name} must be a positive number")
    if len(parameters) < len(pairs):
        raise IndexURIError(text, "a parameter is given twice; keep one of them")
    return parameters
