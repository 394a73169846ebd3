"""Tag filters: which songs fail, against the words of the definition."""

from hypothesis import given
from hypothesis import strategies as st

from services.recommender.catalogue import Catalogue, Song
from services.recommender.filters import TagFilter

TAGS = ("rock", "pop", "90s", "live")

tags = st.lists(st.sampled_from(TAGS), max_size=3, unique=True).map(tuple)
catalogues = st.lists(tags, min_size=1, max_size=8).map(
    lambda rows: Catalogue.from_songs(Song(str(k), "", "", row) for k, row in enumerate(rows))
)


@given(catalogues, tags, tags, tags)
def test_a_song_fails_unless_it_has_all_any_and_none(
    catalogue: Catalogue,
    all_of: tuple[str, ...],
    any_of: tuple[str, ...],
    none_of: tuple[str, ...],
) -> None:
    failing = set(TagFilter(all_of, any_of, none_of).failing(catalogue).tolist())
    for position in range(len(catalogue)):
        has = set(catalogue[position].tags)
        passes = has >= set(all_of) and (not any_of or has & set(any_of)) and not has & set(none_of)
        assert (position in failing) == (not passes)


def test_tags_that_no_song_has_are_told_once_and_in_order() -> None:
    catalogue = Catalogue.from_songs([Song("1", "", "", ("rock",))])
    asked = TagFilter(("zydeco", "rock"), ("polka", "zydeco"), ("Rock",))
    assert asked.unknown(catalogue) == ["zydeco", "polka", "Rock"]


def test_a_filter_that_asks_nothing_lets_all_pass() -> None:
    catalogue = Catalogue.from_songs([Song("1", "", ""), Song("2", "", "", ("rock",))])
    assert len(TagFilter().failing(catalogue)) == 0
