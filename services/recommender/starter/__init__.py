"""Data to begin with, so that a model can be trained without a download.

The songs are real. The playlists are synthetic: a model of radio stations makes them up (see
`sampling`). They make a model that gives sensible songs, but they say nothing about what people
listen to, so no figure of a recommender's quality may be drawn from them.
"""

from services.recommender.catalogue import Catalogue
from services.recommender.playlists import Corpus, Playlists
from services.recommender.starter.sampling import sample_playlists
from services.recommender.starter.songs import read_songs

_PLAYLISTS = 6_000


def starter_corpus(seed: int = 0) -> Corpus:
    """Return 600 real songs and 6,000 synthetic playlists of them, which no one ever heard.

    The same seed gives the same playlists. Do not judge a recommender by them: they would only
    show how well it finds the rules that they were made by.
    """
    songs = read_songs()
    playlists = sample_playlists(songs, _PLAYLISTS, seed)
    return Corpus(
        name="starter (synthetic playlists)",
        catalogue=Catalogue.from_songs(songs),
        playlists=Playlists.from_lists([playlist.tolist() for playlist in playlists]),
    )
