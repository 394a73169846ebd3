"""Corpora in the Yes.com format, with all the oddities of the real ones."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recommender.catalogue import Song
from services.recommender.formats import CorpusError, read_corpus
from services.recommender.playlists import Corpus
from tests.unit.recommender.format_suite import (
    Files,
    FormatSuite,
    playlists_of,
    songs_of,
    write,
    yes_files,
)

TRAIN = "x y z\n2 2 1\n0 1 \n1 0 2 \n"
SONGS = "0 \tFade to Black\tMetallica\n1 \tHalo\tBeyoncé\n2 \tHoppípolla\tSigur Rós\n"
TAGS = {"tags.txt": "0 1\n#\n1\n", "tag_hash.txt": "0, metal\n1, slow, quiet\n"}


def read(folder: Path, train: str = TRAIN, songs: str = SONGS, **more: str) -> Corpus:
    return read_corpus(write(folder, {"train.txt": train, "song_hash.txt": songs, **more}))


def first_song(folder: Path, title: str, artist: str = "A") -> Song:
    corpus = read(folder, "x\n2\n0 0\n", f"0 \t{title}\t{artist}\n")
    return corpus.catalogue[0]


class TestYes(FormatSuite):
    def files(self, playlists: list[list[str]]) -> Files:
        return yes_files(playlists)


class TestAWellFormedCorpus:
    def test_songs_and_playlists_are_read(self, tmp_path: Path) -> None:
        corpus = read(tmp_path / "mine")
        assert corpus.name == "mine"
        assert songs_of(corpus) == [
            Song("0", "Fade to Black", "Metallica"),
            Song("1", "Halo", "Beyoncé"),
            Song("2", "Hoppípolla", "Sigur Rós"),
        ]
        assert playlists_of(corpus) == [["0", "1"], ["1", "0", "2"]]
        assert corpus.playlists[0].dtype == np.int32

    def test_tags_are_read_by_song_id_and_may_hold_commas(self, tmp_path: Path) -> None:
        corpus = read(tmp_path, **TAGS)
        assert [song.tags for song in songs_of(corpus)] == [
            ("metal", "slow, quiet"),
            (),
            ("slow, quiet",),
        ]

    def test_ids_need_not_be_row_numbers(self, tmp_path: Path) -> None:
        rows = "".join(reversed(SONGS.splitlines(keepends=True)))
        corpus = read(tmp_path, songs=rows, **TAGS)
        assert [song.id for song in songs_of(corpus)] == ["2", "1", "0"]
        assert playlists_of(corpus) == [["0", "1"], ["1", "0", "2"]]
        assert songs_of(corpus)[0].tags == ("slow, quiet",)

    def test_ids_need_no_space_behind_them(self, tmp_path: Path) -> None:
        corpus = read(tmp_path, TRAIN.replace(" \n", "\n"), SONGS.replace(" \t", "\t"))
        assert playlists_of(corpus) == [["0", "1"], ["1", "0", "2"]]

    def test_the_last_line_may_end_without_a_newline(self, tmp_path: Path) -> None:
        corpus = read(tmp_path, TRAIN.rstrip(), SONGS.rstrip(), **TAGS)
        assert len(corpus.catalogue) == 3
        assert len(corpus.playlists) == 2

    def test_lines_may_end_as_on_windows(self, tmp_path: Path) -> None:
        unix = read(tmp_path / "corpus", **TAGS)
        files = {"train.txt": TRAIN, "song_hash.txt": SONGS, **TAGS}
        windows = read_corpus(
            write(tmp_path / "corpus", {n: t.replace("\n", "\r\n") for n, t in files.items()})
        )
        assert songs_of(windows) == songs_of(unix)
        assert playlists_of(windows) == playlists_of(unix)

    def test_rows_beyond_the_songs_that_are_counted_are_left_out(self, tmp_path: Path) -> None:
        corpus = read(tmp_path, songs=SONGS + "3 \tExtra\tRow\n99 \tMore\tRows\n", **TAGS)
        assert [song.id for song in songs_of(corpus)] == ["0", "1", "2"]

    def test_playlists_of_one_song_or_none_are_left_out_but_their_plays_are_counted(
        self, tmp_path: Path
    ) -> None:
        corpus = read(tmp_path, "x y z\n2 1 1\n0 1\n2\n\n0\n")
        assert playlists_of(corpus) == [["0", "1"]]

    def test_a_song_may_come_twice_in_a_playlist(self, tmp_path: Path) -> None:
        assert playlists_of(read(tmp_path, "x y z\n2 1 0\n0 1 0\n")) == [["0", "1", "0"]]

    def test_a_song_that_is_never_played_needs_no_row(self, tmp_path: Path) -> None:
        corpus = read(tmp_path, "x y z\n1 1 0\n0 1\n", SONGS[: SONGS.index("2 ")])
        assert [song.id for song in songs_of(corpus)] == ["0", "1"]

    @pytest.mark.parametrize(
        ("written", "plain"),
        [
            (r"Speed\\Kill\/Hate", r"Speed\Kill/Hate"),
            (r"\tHappy (Love Theme)", "Happy (Love Theme)"),
            (r"One\tTwo\nThree\rFour", "One Two Three Four"),
            (r"He said \"go\"", 'He said "go"'),
            ("Cut at a quotation \\", "Cut at a quotation"),
            ("Alison Hinds &amp; David Rudder", "Alison Hinds & David Rudder"),
            ("Don&#039;t &quot;Stop&quot; Beyonc&eacute;", 'Don\'t "Stop" Beyoncé'),
            ("R&B; AT&T", "R&B; AT&T"),
            ("-", "-"),
            ("", ""),
            ("  two   spaces ", "two spaces"),
            ("99", "99"),
        ],
    )
    def test_titles_and_artists_come_without_escapes(
        self, tmp_path: Path, written: str, plain: str
    ) -> None:
        song = first_song(tmp_path, written, written)
        assert (song.title, song.artist) == (plain, plain)

    @settings(max_examples=50)
    @given(
        playlists=st.lists(
            st.lists(st.integers(0, 30), min_size=2, max_size=12), min_size=1, max_size=12
        ),
        order=st.permutations(range(31)),
    )
    def test_any_playlists_that_are_written_come_back_equal(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        playlists: list[list[int]],
        order: list[int],
    ) -> None:
        plays = np.bincount([song for playlist in playlists for song in playlist], minlength=31)
        lines = [range(31), plays.tolist(), *playlists]
        corpus = read(
            tmp_path_factory.mktemp("corpus"),
            "".join(" ".join(map(str, line)) + " \n" for line in lines),
            "".join(f"{song} \tTitle {song}\tArtist {song}\n" for song in order),
        )
        assert [song.id for song in songs_of(corpus)] == [str(song) for song in order]
        assert playlists_of(corpus) == [[str(song) for song in p] for p in playlists]


class TestAMalformedCorpusIsRefused:
    """Each with the file, the line where there is one, and what to do."""

    @pytest.mark.parametrize(
        ("train", "place", "problem"),
        [
            ("", "train.txt:", "lacks its first two lines"),
            ("x y z\n", "train.txt:", "lacks its first two lines"),
            ("x y\n2 2 1\n0 1\n", "train.txt:2:", "3 counts here but 2 ids on line 1"),
            ("x y z\n2 2\n0 1\n", "train.txt:2:", "2 counts here but 3 ids on line 1"),
            ("x y z\n2 two 1\n0 1\n", "train.txt:2:", "count 'two' is not a number"),
            ("x y z\n2 -1 1\n0 1\n", "train.txt:2:", "count '-1' is not a number"),
            ("x y z\n2 2 1\n0 1\n1 zero 2\n", "train.txt:4:", "song id 'zero' is not a number"),
            ("x y z\n2 2 1\n0 1\n1 ٣ 2\n", "train.txt:4:", "song id '٣' is not a number"),
            ("x y z\n2 2 1\n0 1\n1 0 3\n", "train.txt:4:", "song id 3 is out of range"),
            (
                f"x y z\n2 2 1\n0 {'9' * 5000}\n",
                "train.txt:3:",
                "is not a number",
            ),
            (
                "x y z\n2 2 2\n0 1\n1 0 2\n",
                "train.txt:2:",
                "song id 2 should appear 2 times but appears 1 times",
            ),
            ("x y z\n2 2 1\n0 1\n1 0\n", "train.txt:2:", "song id 2 should appear 1 times"),
        ],
    )
    def test_playlists(self, tmp_path: Path, train: str, place: str, problem: str) -> None:
        with pytest.raises(CorpusError) as caught:
            read(tmp_path, train)
        assert str(caught.value).startswith(place)
        assert problem in str(caught.value)

    @pytest.mark.parametrize(
        ("songs", "place", "problem"),
        [
            ("", "song_hash.txt:", "holds no song"),
            (SONGS.replace("\tBeyoncé", ""), "song_hash.txt:2:", "has 2 columns instead of 3"),
            (SONGS.replace("Halo", "Ha\tlo"), "song_hash.txt:2:", "has 4 columns instead of 3"),
            (SONGS + "\n", "song_hash.txt:4:", "has 1 columns instead of 3"),
            (SONGS.replace("1 \t", "one \t"), "song_hash.txt:2:", "song id 'one' is not a number"),
            (SONGS.replace("1 \t", "\t"), "song_hash.txt:2:", "song id '' is not a number"),
            (SONGS.replace("2 \t", "1 \t"), "song_hash.txt:3:", "song id 1 was given before"),
            (SONGS.replace("1 \t", "4 \t"), "train.txt:3:", "song id 1 is not in song_hash.txt"),
        ],
    )
    def test_songs(self, tmp_path: Path, songs: str, place: str, problem: str) -> None:
        with pytest.raises(CorpusError) as caught:
            read(tmp_path, songs=songs)
        assert str(caught.value).startswith(place)
        assert problem in str(caught.value)

    @pytest.mark.parametrize(
        ("file", "text", "place", "problem"),
        [
            ("tags.txt", "0\n#\n", "tags.txt:", "has 2 lines for 3 songs"),
            ("tags.txt", "0\n#\nrock\n", "tags.txt:3:", "tag id 'rock' is not a number"),
            ("tags.txt", "0\n2\n1\n", "tags.txt:2:", "tag id 2 is not in tag_hash.txt"),
            ("tag_hash.txt", "0, metal\n1 slow\n", "tag_hash.txt:2:", "has no comma"),
            ("tag_hash.txt", "a, metal\n", "tag_hash.txt:1:", "tag id 'a' is not a number"),
            ("tag_hash.txt", "0, a\n0, b\n", "tag_hash.txt:2:", "tag id 0 was given before"),
        ],
    )
    def test_tags(self, tmp_path: Path, file: str, text: str, place: str, problem: str) -> None:
        with pytest.raises(CorpusError) as caught:
            read(tmp_path, **(TAGS | {file: text}))
        assert str(caught.value).startswith(place)
        assert problem in str(caught.value)

    @pytest.mark.parametrize("file", ["train.txt", "song_hash.txt", "tags.txt", "tag_hash.txt"])
    def test_text_that_is_not_utf8(self, tmp_path: Path, file: str) -> None:
        files = {"train.txt": TRAIN, "song_hash.txt": SONGS, **TAGS}
        first, rest = files[file].split("\n", 1)
        write(tmp_path, files)
        (tmp_path / file).write_bytes(first.encode() + b"\nBeyonc\xe9" + rest.encode())
        with pytest.raises(CorpusError, match=f"^{file}:2: is not valid UTF-8; save the file"):
            read_corpus(tmp_path)

    @pytest.mark.parametrize("file", ["train.txt", "song_hash.txt", "tag_hash.txt"])
    def test_a_missing_file(self, tmp_path: Path, file: str) -> None:
        write(tmp_path, {"train.txt": TRAIN, "song_hash.txt": SONGS, **TAGS})
        (tmp_path / file).unlink()
        with pytest.raises(CorpusError, match=f"^{file}: there is no such file in") as caught:
            read_corpus(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert caught.value.problem.line is None

    def test_a_folder_where_a_file_should_be(self, tmp_path: Path) -> None:
        write(tmp_path, {"train.txt": TRAIN})
        (tmp_path / "song_hash.txt").mkdir()
        with pytest.raises(CorpusError, match=r"^song_hash\.txt: cannot be read: "):
            read_corpus(tmp_path)

    @settings(max_examples=100)
    @given(train=st.binary(max_size=60), songs=st.binary(max_size=60))
    def test_whatever_the_bytes_are_nothing_but_a_corpus_error_comes(
        self, tmp_path_factory: pytest.TempPathFactory, train: bytes, songs: bytes
    ) -> None:
        folder = tmp_path_factory.mktemp("garbage")
        (folder / "train.txt").write_bytes(train)
        (folder / "song_hash.txt").write_bytes(songs)
        with pytest.raises(CorpusError):
            read_corpus(folder)
        shutil.rmtree(folder)
