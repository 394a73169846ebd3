"""What every format of playlists promises; each format's test class inherits it."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.recommender.catalogue import Song
from services.recommender.checking import check_corpus
from services.recommender.formats import CorpusError, read_corpus
from services.recommender.formats.problems import Kind
from services.recommender.playlists import Corpus

Files = dict[str, str]

PLAYLISTS = [["2", "0", "1"], ["1"], ["0", "3"], ["3", "3", "2"]]


def song(song_id: str) -> Song:
    return Song(song_id, f"Título {song_id}", f"Artist {int(song_id) % 3}")


def yes_files(playlists: list[list[str]]) -> Files:
    plays = [int(song_id) for playlist in playlists for song_id in playlist]
    counts = np.bincount(plays).tolist()
    songs = map(song, map(str, range(len(counts))))
    lines = [map(str, range(len(counts))), map(str, counts), *playlists]
    return {
        "train.txt": "".join(" ".join(line) + " \n" for line in lines),
        "song_hash.txt": "".join(f"{s.id} \t{s.title}\t{s.artist}\n" for s in songs),
    }


def csv_files(playlists: list[list[str]]) -> Files:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["playlist_id", "position", "song_id", "title", "artist"])
    for number, playlist in enumerate(playlists):
        for position, song_id in enumerate(playlist):
            played = song(song_id)
            writer.writerow([f"p{number}", position, song_id, played.title, played.artist])
    return {"plays.csv": text.getvalue()}


def mpd_files(playlists: list[list[str]]) -> Files:
    content = [
        {
            "name": "mine",
            "pid": pid,
            "num_tracks": len(playlist),
            "tracks": [
                {
                    "pos": position,
                    "track_uri": song_id,
                    "track_name": song(song_id).title,
                    "artist_name": song(song_id).artist,
                    "duration_ms": 1,
                }
                for position, song_id in enumerate(playlist)
            ],
        }
        for pid, playlist in enumerate(playlists)
    ]
    text = json.dumps({"info": {}, "playlists": content}, indent=4, ensure_ascii=False)
    return {"mpd.slice.0-999.json": text + "\n"}


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    return folder


def songs_of(corpus: Corpus) -> list[Song]:
    return [corpus.catalogue[position] for position in range(len(corpus.catalogue))]


def playlists_of(corpus: Corpus) -> list[list[str]]:
    return [[corpus.catalogue.ids[song] for song in playlist] for playlist in corpus.playlists]


class FormatSuite(ABC):
    """Tests of whatever `files` writes."""

    @abstractmethod
    def files(self, playlists: list[list[str]]) -> Files:
        """The files of a folder with these playlists, of song ids that are numbers."""

    def read(self, folder: Path, playlists: list[list[str]]) -> Corpus:
        return read_corpus(write(folder, self.files(playlists)))

    def test_songs_and_playlists_are_read(self, tmp_path: Path) -> None:
        corpus = self.read(tmp_path / "mine", PLAYLISTS)
        assert corpus.name == "mine"
        assert playlists_of(corpus) == [["2", "0", "1"], ["0", "3"], ["3", "3", "2"]]
        assert {found.id: found for found in songs_of(corpus)} == {k: song(k) for k in "0123"}
        assert corpus.playlists.songs.dtype == np.int32

    # The classes that inherit it are its executors, and read different files.
    @settings(max_examples=30, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        st.lists(
            st.lists(st.integers(0, 30).map(str), min_size=1, max_size=12), min_size=1, max_size=12
        )
    )
    def test_playlists_of_two_songs_and_more_come_back_in_their_order(
        self, tmp_path_factory: pytest.TempPathFactory, playlists: list[list[str]]
    ) -> None:
        kept = [playlist for playlist in playlists if len(playlist) > 1]
        corpus = self.read(tmp_path_factory.mktemp("corpus"), [*playlists, ["0", "1"]])
        assert playlists_of(corpus) == [*kept, ["0", "1"]]

    def test_lines_may_end_as_on_windows(self, tmp_path: Path) -> None:
        unix = self.read(tmp_path / "corpus", PLAYLISTS)
        files = {name: text.replace("\n", "\r\n") for name, text in self.files(PLAYLISTS).items()}
        windows = read_corpus(write(tmp_path / "corpus", files))
        assert songs_of(windows) == songs_of(unix)
        assert playlists_of(windows) == playlists_of(unix)

    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path) -> None:
        files = {name: "\ufeff" + text for name, text in self.files(PLAYLISTS).items()}
        corpus = read_corpus(write(tmp_path, files))
        assert playlists_of(corpus) == [["2", "0", "1"], ["0", "3"], ["3", "3", "2"]]

    def test_a_corpus_may_be_named_by_a_file_of_it(self, tmp_path: Path) -> None:
        whole = self.read(tmp_path, PLAYLISTS)
        for name in self.files(PLAYLISTS):
            assert playlists_of(read_corpus(tmp_path / name)) == playlists_of(whole)

    def test_playlists_of_one_song_are_nothing_to_learn_from(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match="no playlist of at least two songs") as caught:
            self.read(tmp_path, [["0"], ["1"]])
        assert caught.value.problem.kind is Kind.EMPTY

    def test_a_check_finds_what_is_left_out_and_nothing_else(self, tmp_path: Path) -> None:
        findings = check_corpus(write(tmp_path, self.files(PLAYLISTS)), shown=5)
        assert findings.sound
        assert findings.counts == {Kind.SHORT: 1}
        assert findings.statistics is not None
        assert (findings.statistics.songs, findings.statistics.playlists) == (4, 3)
        assert findings.statistics.plays == 8

    def test_titles_and_artists_hold_no_line_breaks_or_stray_spaces(self, tmp_path: Path) -> None:
        files = {
            k: t.replace("Título 3", "  Título   3 ") for k, t in self.files(PLAYLISTS).items()
        }
        corpus = read_corpus(write(tmp_path, files))
        assert corpus.catalogue[corpus.catalogue.position("3")] == song("3")
