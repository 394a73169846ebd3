"""What a check of a corpus finds."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.recommender.checking import Findings, check_corpus
from services.recommender.formats import CorpusError, read_corpus
from services.recommender.formats.problems import Kind
from tests.unit.recommender.format_suite import write

HEADER = "playlist_id,position,song_id,title,artist\n"
TRAIN = "x y z\n2 2 1\n0 1 \n1 0 2 \n"
SONGS = "0 \tFade to Black\tMetallica\n1 \tHalo\tBeyoncé\n2 \tHoppípolla\tSigur Rós\n"

MALFORMED = {
    "train.txt": "x y z u\n2 3 1 0\n0 1 \n1 9 \n1 0 2 x 7 \n",
    "song_hash.txt": SONGS + "2 \tAgain\tA\nno row\n9 \tToo\tFar\n",
    "tags.txt": "0\n1\n",
    "tag_hash.txt": "0, metal\n",
}


def check(folder: Path, files: Mapping[str, str | bytes], shown: int = 5) -> Findings:
    return check_corpus(write(folder, files), shown)


def messages(findings: Findings, kind: Kind) -> list[str]:
    return [str(problem) for problem in findings.examples[kind]]


class TestASoundCorpus:
    def test_it_has_statistics_and_no_findings(self, tmp_path: Path) -> None:
        findings = check(tmp_path, {"train.txt": TRAIN, "song_hash.txt": SONGS})
        assert findings.sound
        assert findings.counts == {}
        assert findings.statistics is not None
        assert findings.statistics.name == tmp_path.name
        assert (findings.statistics.songs, findings.statistics.playlists) == (3, 2)
        assert findings.statistics.plays == 5

    def test_songs_that_are_odd_are_warnings(self, tmp_path: Path) -> None:
        rows = ["p,0,a,Halo,Beyoncé", "p,1,b,,X", "p,2,c,HALO,beyoncé", "p,3,d,Y,", "q,0,e,Z,Z"]
        findings = check(tmp_path, {"plays.csv": HEADER + "\n".join(rows) + "\n"})
        assert findings.sound
        assert findings.counts == {Kind.SHORT: 1, Kind.NAMELESS: 2, Kind.TWIN: 1, Kind.UNPLAYED: 1}
        name = tmp_path.name
        assert messages(findings, Kind.SHORT) == ["plays.csv:6: playlist 'q' has one song."]
        assert messages(findings, Kind.UNPLAYED) == [
            f"{name}: song id 'e' is in none of the playlists."
        ]
        assert messages(findings, Kind.TWIN) == [
            f"{name}: song id 'c' has the title and artist of 'a'."
        ]
        assert messages(findings, Kind.NAMELESS) == [
            f"{name}: song id 'b' has no title.",
            f"{name}: song id 'd' has no artist.",
        ]

    def test_a_last_line_without_an_end_is_a_warning(self, tmp_path: Path) -> None:
        findings = check(tmp_path, {"train.txt": TRAIN, "song_hash.txt": SONGS.rstrip()})
        assert findings.sound
        (message,) = messages(findings, Kind.OPEN)
        assert message.startswith("song_hash.txt:3: has no line end")


class TestAMalformedCorpus:
    def test_all_that_is_wrong_is_told(self, tmp_path: Path) -> None:
        findings = check(tmp_path, MALFORMED)
        assert not findings.sound
        assert findings.statistics is None
        assert findings.counts == {
            Kind.DUPLICATE: 1,
            Kind.SYNTAX: 1,
            Kind.EXTRA: 1,
            Kind.UNKNOWN: 3,
            Kind.COUNT: 1,
            Kind.VALUE: 1,
        }
        assert [message.split(": ")[0] for message in messages(findings, Kind.UNKNOWN)] == [
            "tags.txt:2",
            "train.txt:4",
            "train.txt:5",
        ]

    def test_the_first_of_a_kind_are_shown_and_all_are_counted(self, tmp_path: Path) -> None:
        rows = "".join(f"p,x{number},a,A,A\n" for number in range(1000))
        findings = check(tmp_path, {"plays.csv": HEADER + rows}, shown=2)
        assert findings.counts[Kind.VALUE] == 1000
        lines = [problem.line for problem in findings.examples[Kind.VALUE]]
        assert lines == [2, 3]

    def test_lines_that_are_not_text_do_not_end_it(self, tmp_path: Path) -> None:
        text = HEADER.encode() + b"p,0,a,Caf\xe9,A\np,1,b,B\0,B\np,2,c,C,C\np,3,d,D,D\n"
        findings = check(tmp_path, {"plays.csv": text})
        assert findings.counts == {Kind.TEXT: 2}
        assert [problem.line for problem in findings.examples[Kind.TEXT]] == [2, 3]

    def test_a_missing_file_ends_it(self, tmp_path: Path) -> None:
        findings = check(tmp_path, {"train.txt": TRAIN})
        assert findings.counts == {Kind.FILE: 1}
        assert messages(findings, Kind.FILE)[0].startswith("song_hash.txt: there is no such file")

    def test_reading_refuses_the_first_error_that_a_check_finds(self, tmp_path: Path) -> None:
        findings = check(tmp_path, MALFORMED)
        with pytest.raises(CorpusError) as caught:
            read_corpus(tmp_path)
        assert caught.value.problem == findings.examples[Kind.DUPLICATE][0]
