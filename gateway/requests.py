"""The gateway's own requests, checked. Those that pass through are checked behind it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from serving.validation import Id, RequestModel


class NarrationSeed(RequestModel):
    """A song by id or by words; the contract's oneof sees to it that one is set."""

    song_id: Id | None = None
    query: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None


class NarrateRequest(RequestModel):
    """`NarrateRequest` of the contract; sampling and stopping are checked by the generator."""

    seeds: Annotated[list[NarrationSeed], Field(min_length=1, max_length=20)]
    limit: Annotated[int, Field(ge=1, le=20)] = 5
