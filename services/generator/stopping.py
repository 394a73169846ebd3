"""Stop strings, found in text that arrives in pieces."""

from collections.abc import Sequence


class StopMatcher:
    """Passes text on until a stop string is complete, however the text was cut.

    Of several stop strings the one that is complete first wins, the longer one if two end
    together; neither it nor what follows it is passed on. Text is held back only while it may be
    the beginning of a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Take more text and give what may be passed on."""
        if self.matched is not None:
            return ""
        self._held += text
        found = [
            (start + len(stop), start, stop)
            for stop in self._stops
            if (start := self._held.find(stop)) >= 0
        ]
        if found:
            _, start, self.matched = min(found)
            return self._release(start, drop_rest=True)
        return self._release(len(self._held) - self._longest_beginning())

    def flush(self) -> str:
        """Give what was held back; no more text will come."""
        return self._release(len(self._held))

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        return max((self._beginning_of(stop) for stop in self._stops), default=0)

    def _beginning_of(self, stop: str) -> int:
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)

    def _release(self, size: int, *, drop_rest: bool = False) -> str:
        text, self._held = self._held[:size], "" if drop_rest else self._held[size:]
        return text
