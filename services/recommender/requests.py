"""The recommender's requests, checked; the limits are those in the contract's comments."""

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from serving.validation import Id, RequestModel

WANTED = 10
"""Songs that are wanted where a request does not say."""

MOST_WANTED = 1000
"""Songs that a request may want."""

LARGEST_WEIGHT = 100.0
"""What a seed may weigh, for or against songs like it."""

MOST_SEEDS = 500
"""Seeds that a request may have."""

MOST_REQUESTS = 256
"""Requests that a batch may have."""

Limit = Annotated[int, Field(ge=1, le=MOST_WANTED)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=1000)]
Tags = Annotated[tuple[Id, ...], Field(max_length=100)]

BATCH_LIMIT = 10_000
"""Most seeds, and most songs wanted, of a batch in all."""


class SearchSongs(RequestModel):
    """`SearchSongsRequest` of the contract."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    page_size: Annotated[int, Field(ge=1, le=100)] = 10
    page_token: str = ""


class SongIds(RequestModel):
    """`GetSongsRequest` and `GetEmbeddingsRequest` of the contract."""

    song_ids: Ids


class FindSimilarSongs(RequestModel):
    """`FindSimilarSongsRequest` of the contract."""

    song_id: Id
    limit: Limit = 10
    exact: bool = False


class Seed(RequestModel):
    """`Seed` of the contract."""

    song_id: Id
    weight: Annotated[float, Field(ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT)] = 1.0


class TagFilter(RequestModel):
    """`TagFilter` of the contract."""

    all_of: Tags = ()
    any_of: Tags = ()
    none_of: Tags = ()


class RecommendSongs(RequestModel):
    """`RecommendSongsRequest` of the contract."""

    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS)]
    limit: Limit = WANTED
    exclude_song_ids: Annotated[tuple[Id, ...], Field(max_length=10_000)] = ()
    tags: TagFilter | None = None
    max_per_artist: Annotated[int, Field(ge=1, le=1000)] | None = None
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    exact: bool = False
    explain: bool = False


class BatchRecommendSongs(RequestModel):
    """`BatchRecommendSongsRequest` of the contract."""

    requests: Annotated[list[RecommendSongs], Field(min_length=1, max_length=MOST_REQUESTS)]

    @field_validator("requests")
    @classmethod
    def _bounded(cls, requests: list[RecommendSongs]) -> list[RecommendSongs]:
        for what, count in (
            ("seeds", sum(len(request.seeds) for request in requests)),
            ("songs wanted", sum(request.limit for request in requests)),
        ):
            if count > BATCH_LIMIT:
                raise ValueError(f"hold {count:,} {what} in all; ask for at most {BATCH_LIMIT:,}")
        return requests
