"""Which songs may be recommended, by their tags."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class TagFilter:
    """A song passes with every tag of `all_of`, at least one of `any_of`, and none of `none_of`.

    An empty list asks nothing.
    """

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()

    def unknown(self, catalogue: Catalogue) -> list[str]:
        """The tags that no song has, in the order given."""
        tags = dict.fromkeys((*self.all_of, *self.any_of, *self.none_of))
        return [tag for tag in tags if not len(catalogue.tagged(tag))]

    def failing(self, catalogue: Catalogue) -> NDArray[np.int64]:
        """Positions of the songs that do not pass, ascending."""
        passes = np.ones(len(catalogue), np.bool_)
        for tag in self.all_of:
            passes &= _having(catalogue, [tag])
        if self.any_of:
            passes &= _having(catalogue, self.any_of)
        if self.none_of:
            passes &= ~_having(catalogue, self.none_of)
        return np.flatnonzero(~passes)


def _having(catalogue: Catalogue, tags: "list[str] | tuple[str, ...]") -> NDArray[np.bool_]:
    """Which songs have one of the tags."""
    having = np.zeros(len(catalogue), np.bool_)
    for tag in tags:
        having[catalogue.tagged(tag)] = True
    return having
