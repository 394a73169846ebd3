"""How fast an engine finishes texts."""

import time

# How long a place is taken to stay taken until that has been measured.
_FIRST_GUESS_S = 1.0
_SMOOTHING = 0.2


class Pace:
    """How fast texts are finished, as long as there are any.

    Attributes:
        seconds: From the end of one to the end of the next, on average of late.
    """

    def __init__(self) -> None:
        self.seconds = _FIRST_GUESS_S
        self._last = time.monotonic()

    def note(self) -> None:
        """Note that a text is finished."""
        now = time.monotonic()
        self.seconds += _SMOOTHING * (min(now - self._last, _FIRST_GUESS_S) - self.seconds)
        self._last = now
