"""A place among the vectors for songs that are played too seldom to be given one by training."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.catalogue import Catalogue

Vectors = NDArray[np.float32]


def placeable(catalogue: Catalogue, trained: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the songs that have an artist or a tag in common with a trained one."""
    kinship = _kinship(catalogue)
    known = kinship[trained].sum(axis=0) > 0
    return np.flatnonzero(kinship @ known.astype(np.float32))


def place(catalogue: Catalogue, vectors: Vectors) -> Vectors:
    """Infer vectors of songs from those of their artists' songs and of songs with their tags.

    A song gets the mean of the mean vectors of its artist and of its tags. Each counts the more,
    the fewer songs it has (inverse document frequency): an artist says more than "rock" does.

    Args:
        catalogue: n songs, the trained ones first; the others are `placeable`.
        vectors: float32 (trained, d).

    Returns:
        float32 (n - trained, d).
    """
    trained = len(vectors)
    kinship = _kinship(catalogue)
    counts = kinship[:trained].sum(axis=0)
    means = (kinship[:trained].T @ vectors) / np.maximum(counts, 1)[:, None]
    rarity = np.where(counts > 0, np.log1p(trained / np.maximum(counts, 1)), 0.0)
    weights = kinship[trained:] @ sparse.diags_array(rarity)
    placed: Vectors = ((weights @ means) / weights.sum(axis=1)[:, None]).astype(np.float32)
    return placed


def _kinship(catalogue: Catalogue) -> sparse.csr_array:
    """Which artist and which tags each song has; a row a song, a column an artist or a tag."""
    artists = catalogue.artist_numbers
    known = np.flatnonzero(artists >= 0)
    first_tag = int(artists.max(initial=-1)) + 1
    rows = np.concatenate(
        (known, np.repeat(np.arange(len(catalogue)), np.diff(catalogue.tag_offsets)))
    )
    columns = np.concatenate((artists[known], first_tag + catalogue.tags))
    shape = (len(catalogue), first_tag + len(catalogue.tag_names))
    return sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
