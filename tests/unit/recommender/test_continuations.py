"""Playlists as the ranking reads them: whatever is not of one corpus is refused."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.recommender.continuations import Continuations
from services.recommender.playlists import Playlists

NAMES = ("songs", "bounds", "places", "before", "after", "lengths", "offsets")


class TestArraysThatAreNoCorpus:
    def arrays(self) -> dict[str, NDArray[Any]]:
        corpus = Continuations.from_playlists(Playlists.from_lists([[0, 1, 2], [2, 1]]), 3)
        return {name: getattr(corpus, name).copy() for name in NAMES}

    def test_those_of_a_corpus_are_accepted(self) -> None:
        Continuations(**self.arrays()).check()

    @pytest.mark.parametrize(
        ("name", "row", "value"),
        [
            ("songs", 0, 3),
            ("songs", 0, -1),
            ("songs", 0, 1),
            ("before", 0, 1),
            ("after", 4, 2),
            ("lengths", 1, 9),
            ("bounds", 1, 4),
            ("places", 0, 5),
            ("places", 0, -1),
            ("places", 0, 1),
            ("offsets", 1, 4),
            ("offsets", 0, 1),
        ],
    )
    def test_one_wrong_number_is_refused(self, name: str, row: int, value: int) -> None:
        arrays = self.arrays()
        arrays[name][row] = value
        with pytest.raises(ValueError, match=r"."):
            Continuations(**arrays).check()

    @pytest.mark.parametrize("name", NAMES)
    def test_a_wrong_length_or_type_is_refused(self, name: str) -> None:
        arrays = self.arrays()
        for broken in (arrays[name][:-1], arrays[name].astype(np.float64), arrays[name][None]):
            with pytest.raises(ValueError, match=r"."):
                Continuations(**arrays | {name: broken}).check()
