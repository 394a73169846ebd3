"""The prompt that asks for a text about songs."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NarratedSong:
    """What a narration may say of a song."""

    title: str
    artist: str
    tags: Sequence[str] = ()
    year: int | None = None

    def __str__(self) -> str:
        return f'"{self.title}" by {self.artist}' if self.artist else f'"{self.title}"'

    def described(self) -> str:
        """The song with its year and its first tags, where they are known."""
        facts = [str(self.year)] if self.year else []
        facts += self.tags[:3]
        return f"{self} ({', '.join(facts)})" if facts else str(self)


SYSTEM = "You are a radio host."


def user_prompt(seeds: Sequence[NarratedSong], songs: Sequence[NarratedSong]) -> str:
    """Ask for a text that leads from the seeds to exactly these songs.

    The fixed part comes first, so that an engine which shares prefixes computes it once.
    """
    lines = [
        "Recommend the songs below to a listener, in one friendly paragraph that names every song "
        "and its artist."
    ]
    if seeds:
        lines.append(f"The listener likes {_enumerated([str(seed) for seed in seeds])}.")
    lines += [f"- {song.described()}" for song in songs]
    return "\n".join(lines)


def _enumerated(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
