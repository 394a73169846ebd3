"""The recommender's requests, checked; the limits are those in the contract's comments."""

from typing import Annotated

from pydantic import Field, StringConstraints

from serving.validation import Id, RequestModel

Limit = Annotated[int, Field(ge=1, le=1000)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=1000)]


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


class Seed(RequestModel):
    """`Seed` of the contract."""

    song_id: Id
    weight: Annotated[float, Field(ge=-100, le=100)] = 1.0


class RecommendSongs(RequestModel):
    """`RecommendSongsRequest` of the contract."""

    seeds: Annotated[list[Seed], Field(min_length=1, max_length=500)]
    limit: Limit = 10
    exclude_song_ids: Annotated[tuple[Id, ...], Field(max_length=10_000)] = ()
