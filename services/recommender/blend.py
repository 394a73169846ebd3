"""What a song model weighs when it says what comes next."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blend:
    """How the evidence of playlists and of vectors is blended.

    Attributes:
        recency: What a seed counts, compared with the one played after it, above 0 and below 1.
        proximity: What a seed says of a song in a playlist, compared with the song next to it on
            the seed's side, above 0 and below 1.
        backward: What a seed says of songs that were played before it, compared with those after
            it, 0 to 1.
        sharpness: Exponent that favours songs with several seeds close by, 1 to 8.
        vector_share: The vectors' share of a score, 0 to 1.
    """

    recency: float = 0.95
    proximity: float = 0.93
    backward: float = 0.6
    sharpness: int = 3
    vector_share: float = 0.25

    def __post_init__(self) -> None:
        if not (
            0 < self.recency < 1
            and 0 < self.proximity < 1
            and 0 <= self.backward <= 1
            and 1 <= self.sharpness <= 8
            and 0 <= self.vector_share <= 1
        ):
            raise ValueError(f"{self} is out of range")


DEFAULT_BLEND = Blend()
"""What was best on the validation parts of two sets of radio playlists."""
