from hypothesis import given
from hypothesis import strategies as st

from gateway.narration import NarratedSong, user_prompt

songs = st.builds(
    NarratedSong,
    title=st.text(min_size=1, max_size=20),
    artist=st.text(max_size=20),
    tags=st.lists(st.text(min_size=1, max_size=5), max_size=5),
    year=st.none() | st.integers(1900, 2100),
)


@given(st.lists(songs, max_size=3), st.lists(songs, min_size=1, max_size=5))
def test_the_prompt_names_every_song_and_every_seed(
    seeds: list[NarratedSong], following: list[NarratedSong]
) -> None:
    prompt = user_prompt(seeds, following)
    for song in (*seeds, *following):
        assert str(song) in prompt


def test_a_song_without_an_artist_is_named_by_its_title() -> None:
    assert str(NarratedSong("Intro", "")) == '"Intro"'


def test_prompts_begin_alike_so_that_an_engine_can_share_the_prefix() -> None:
    one = user_prompt([], [NarratedSong("One", "Metallica")])
    other = user_prompt([], [NarratedSong("Respect", "Aretha Franklin")])
    assert one.split('"')[0] == other.split('"')[0]
