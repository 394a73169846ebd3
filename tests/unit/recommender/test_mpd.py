"""Corpora of slices of the Spotify Million Playlist Dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.recommender.formats import CorpusError, read_corpus
from services.recommender.formats.problems import Kind, Problem
from tests.unit.recommender.format_suite import (
    PLAYLISTS,
    Files,
    FormatSuite,
    mpd_files,
    playlists_of,
    write,
)

SLICE = "mpd.slice.0-999.json"


def slice_of(*playlists: list[str], first_pid: int = 0) -> str:
    content = json.loads(mpd_files(list(playlists))[SLICE])
    for playlist in content["playlists"]:
        playlist["pid"] += first_pid
    return json.dumps(content)


def edited(change: Callable[[Any], object]) -> str:
    content = json.loads(mpd_files(PLAYLISTS)[SLICE])
    change(content)
    return json.dumps(content)


def track(content: Any) -> Any:
    return content["playlists"][2]["tracks"][1]


class TestMpd(FormatSuite):
    def files(self, playlists: list[list[str]]) -> Files:
        return mpd_files(playlists)


class TestSlices:
    def test_they_are_read_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        files = {
            "mpd.slice.10000-10999.json": slice_of(["3", "1"], first_pid=10_000),
            "mpd.slice.2000-2999.json": slice_of(["2", "1"], first_pid=2000),
            SLICE: slice_of(["0", "1"]),
        }
        corpus = read_corpus(write(tmp_path, files))
        assert playlists_of(corpus) == [["0", "1"], ["2", "1"], ["3", "1"]]

    def test_a_playlist_that_two_give_is_refused_in_the_second(self, tmp_path: Path) -> None:
        files = {SLICE: slice_of(["0", "1"]), "mpd.slice.1000-1999.json": slice_of(["2", "1"])}
        with pytest.raises(CorpusError, match=r"^mpd\.slice\.1000-1999.*pid 0 was given before"):
            read_corpus(write(tmp_path, files))

    def test_a_broken_one_does_not_keep_a_check_from_the_others(self, tmp_path: Path) -> None:
        files = {SLICE: "{", "mpd.slice.1000-1999.json": slice_of(["2", "1"], first_pid=1000)}
        found: list[Problem] = []
        corpus = read_corpus(write(tmp_path, files), found.append)
        assert playlists_of(corpus) == [["2", "1"]]
        assert [(problem.kind, problem.path.name) for problem in found] == [(Kind.SYNTAX, SLICE)]


class TestTracks:
    def test_they_are_ordered_by_pos(self, tmp_path: Path) -> None:
        text = edited(lambda content: content["playlists"][0]["tracks"].reverse())
        corpus = read_corpus(write(tmp_path, {SLICE: text}))
        assert playlists_of(corpus)[0] == PLAYLISTS[0]

    def test_control_characters_of_titles_and_artists_are_taken_out(self, tmp_path: Path) -> None:
        text = edited(lambda content: track(content).update(track_name="a\0b\x1fc\n"))
        corpus = read_corpus(write(tmp_path, {SLICE: text}))
        assert corpus.catalogue[corpus.catalogue.position("3")].title == "a b c"


class TestProblems:
    @pytest.mark.parametrize(
        ("change", "kind", "text"),
        [
            (lambda c: track(c).pop("pos"), Kind.VALUE, "[2].tracks[1].pos: Field required"),
            (lambda c: track(c).update(pos="1"), Kind.VALUE, "playlists[2].tracks[1].pos: Input"),
            (lambda c: track(c).update(pos=1.5), Kind.VALUE, "playlists[2].tracks[1].pos: Input"),
            (lambda c: track(c).update(pos=True), Kind.VALUE, "playlists[2].tracks[1].pos: Input"),
            (lambda c: track(c).update(pos=-1), Kind.VALUE, "playlists[2].tracks[1].pos: Input"),
            (lambda c: track(c).update(pos=2**31), Kind.VALUE, "[2].tracks[1].pos: Input"),
            (lambda c: track(c).update(track_uri=7), Kind.VALUE, "[2].tracks[1].track_uri: Input"),
            (lambda c: track(c).update(track_uri=""), Kind.VALUE, "[2]: a song id is empty"),
            (lambda c: track(c).update(track_name=None), Kind.VALUE, "[2].tracks[1].track_name"),
            (lambda c: track(c).update(artist_name=[]), Kind.VALUE, "[2].tracks[1].artist_name"),
            (lambda c: track(c).update(track_uri="x\0"), Kind.VALUE, "[2]: song id 'x\\x00' holds"),
            (lambda c: track(c).update(pos=0), Kind.DUPLICATE, "playlist '2' has position 0 alr"),
            (lambda c: c["playlists"][3].update(pid=0), Kind.DUPLICATE, "[3]: pid 0 was given"),
            (lambda c: c["playlists"][3].update(pid="0"), Kind.VALUE, "playlists[3].pid: Input"),
            (lambda c: c["playlists"][3].update(pid=10**30), Kind.VALUE, "playlists[3].pid: Inp"),
            (lambda c: c["playlists"][3]["tracks"].pop(), Kind.COUNT, "num_tracks is 3 for 2 tra"),
            (lambda c: c["playlists"][3].update(tracks={}), Kind.VALUE, "playlists[3].tracks: In"),
            (lambda c: c["playlists"][3].pop("tracks"), Kind.VALUE, "playlists[3].tracks: Field"),
            (lambda c: c["playlists"].append(None), Kind.VALUE, "playlists[4]: Input should be"),
        ],
    )
    def test_what_cannot_be_used_is_told_with_its_place_and_left_out(
        self, tmp_path: Path, change: Callable[[Any], object], kind: Kind, text: str
    ) -> None:
        found: list[Problem] = []
        read_corpus(write(tmp_path, {SLICE: edited(change)}), found.append)
        errors = [problem for problem in found if problem.kind.is_error]
        assert [(error.kind, error.path.name) for error in errors] == [(kind, SLICE)]
        assert text in errors[0].text

    @pytest.mark.parametrize("text", ["[]", "null", "7", "{}", '{"playlists": {}}'])
    def test_json_that_is_no_slice(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(CorpusError, match=r"^mpd.*: holds no list of playlists; write {"):
            read_corpus(write(tmp_path, {SLICE: text}))

    def test_broken_syntax_is_told_with_its_line(self, tmp_path: Path) -> None:
        lines = mpd_files(PLAYLISTS)[SLICE].splitlines(keepends=True)
        with pytest.raises(CorpusError, match="is not JSON: EOF while parsing") as caught:
            read_corpus(write(tmp_path, {SLICE: "".join(lines[:20])}))
        assert caught.value.problem.line == 21

    def test_a_playlist_without_songs_is_left_out(self, tmp_path: Path) -> None:
        def empty(content: Any) -> None:
            content["playlists"][0].update(tracks=[], num_tracks=0)

        found: list[Problem] = []
        corpus = read_corpus(write(tmp_path, {SLICE: edited(empty)}), found.append)
        assert playlists_of(corpus) == [["0", "3"], ["3", "3", "2"]]
        assert [problem.kind for problem in found] == [Kind.SHORT, Kind.SHORT]
