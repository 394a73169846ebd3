"""What every engine is asked for."""

import itertools
from collections.abc import Iterator

NEW_TOKENS = 64
"""Tokens of each text."""


def prompts() -> Iterator[str]:
    """Prompts of about two dozen tokens without end.

    Their first tokens differ, so that no engine finds the beginning of one in its cache.
    """
    for number in itertools.count(1):
        yield (
            f"Letter {number} to the radio: last night you played a song that I have not been able "
            "to forget. It began"
        )
