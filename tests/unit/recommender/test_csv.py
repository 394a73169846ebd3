"""Corpora in CSV, one row a play."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from services.recommender.catalogue import Song
from services.recommender.formats import CorpusError, read_corpus
from services.recommender.formats.problems import Kind, Problem
from tests.unit.recommender.format_suite import (
    PLAYLISTS,
    Files,
    FormatSuite,
    csv_files,
    playlists_of,
    songs_of,
    write,
)

HEADER = "playlist_id,position,song_id,title,artist\n"
ROWS = "p,0,a,Halo,Beyoncé\np,1,b,Fade,Metallica\n"


def read(folder: Path, **files: str) -> tuple[list[list[str]], list[Song]]:
    corpus = read_corpus(write(folder, {f"{name}.csv": text for name, text in files.items()}))
    return playlists_of(corpus), songs_of(corpus)


def problems(folder: Path, text: str) -> list[Problem]:
    found: list[Problem] = []
    read_corpus(write(folder, {"plays.csv": text}), found.append)
    return found


class TestCsv(FormatSuite):
    def files(self, playlists: list[list[str]]) -> Files:
        return csv_files(playlists)


class TestRows:
    @pytest.mark.parametrize("seed", range(5))
    def test_plays_are_ordered_by_position_wherever_they_stand(
        self, tmp_path: Path, seed: int
    ) -> None:
        header, *rows = csv_files(PLAYLISTS)["plays.csv"].splitlines(keepends=True)
        Random(seed).shuffle(rows)
        first_seen = list(dict.fromkeys(int(row[1]) for row in rows))
        playlists, _ = read(tmp_path, plays="".join([header, *rows]))
        assert playlists == [PLAYLISTS[number] for number in first_seen if number != 1]

    def test_positions_may_begin_anywhere(self, tmp_path: Path) -> None:
        rows = "p,7,a,,\np,999999999,b,,\np,8,c,,\n"
        assert read(tmp_path, plays=HEADER + rows)[0] == [["a", "c", "b"]]

    def test_fields_may_be_quoted_and_hold_commas_quotes_and_line_breaks(
        self, tmp_path: Path
    ) -> None:
        rows = '"p","0","a","Hey, ""you""","A\r\nB"\np,1,b,"","x"\n'
        _, songs = read(tmp_path, plays=HEADER + rows)
        assert songs == [Song("a", 'Hey, "you"', "A B"), Song("b", "", "x")]

    def test_ids_are_strings_without_the_spaces_around_them(self, tmp_path: Path) -> None:
        rows = "p, 0 , 007 ,A,B\n p ,1,7,A,B\n"
        assert read(tmp_path, plays=HEADER + rows)[0] == [["007", "7"]]

    def test_empty_lines_are_passed_over(self, tmp_path: Path) -> None:
        assert read(tmp_path, plays=HEADER + "\n" + ROWS + "\n\n")[0] == [["a", "b"]]


class TestColumns:
    def test_they_may_come_in_any_order_and_others_are_ignored(self, tmp_path: Path) -> None:
        text = "artist,song_id,ms,title,position,playlist_id\nX,a,5,Halo,1,p\nY,b,6,Fade,0,p\n"
        playlists, songs = read(tmp_path, plays=text)
        assert playlists == [["b", "a"]]
        assert songs == [Song("a", "Halo", "X"), Song("b", "Fade", "Y")]

    def test_tags_and_years_are_read_where_there_are_any(self, tmp_path: Path) -> None:
        text = (
            "year,playlist_id,position,song_id,title,artist,tags\n"
            "1991,p,0,a,Halo,X,soul; slow  jam ;;soul\n"
            ",p,1,b,Fade,Y,\n"
        )
        assert read(tmp_path, plays=text)[1] == [
            Song("a", "Halo", "X", ("soul", "slow jam"), 1991),
            Song("b", "Fade", "Y"),
        ]


class TestFolders:
    def test_files_are_read_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        later = HEADER + "q,0,c,C,C\nq,1,a,Halo,Beyoncé\n"
        playlists, _ = read(tmp_path, part2=later, part1=HEADER + ROWS)
        assert playlists == [["a", "b"], ["c", "a"]]

    def test_a_playlist_may_go_on_in_another_file(self, tmp_path: Path) -> None:
        playlists, _ = read(tmp_path, part1=HEADER + ROWS, part2=HEADER + "p,2,c,C,C\n")
        assert playlists == [["a", "b", "c"]]

    def test_a_position_that_two_files_give_is_refused_in_the_second(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match=r"^part2\.csv:2: playlist 'p' has position 1 alre"):
            read(tmp_path, part1=HEADER + ROWS, part2=HEADER + "p,1,c,C,C\n")


class TestProblems:
    @pytest.mark.parametrize(
        ("change", "kind", "line", "text"),
        [
            (lambda t: t.replace("p,1", "p,one"), Kind.VALUE, 3, "position 'one' is not a number"),
            (lambda t: t.replace("p,1", "p,-1"), Kind.VALUE, 3, "position '-1' is not a number"),
            (lambda t: t.replace("p,1", "p,1.0"), Kind.VALUE, 3, "position '1.0' is not a number"),
            (lambda t: t.replace("p,1", "p,"), Kind.VALUE, 3, "position '' is not a number"),
            (lambda t: t.replace("p,1", ",1"), Kind.VALUE, 3, "the playlist id is empty"),
            (lambda t: t.replace("b,", ","), Kind.VALUE, 3, "a song id is empty"),
            (lambda t: t.replace("b,", "b" * 201 + ","), Kind.VALUE, 3, "a song id has 201 char"),
            (lambda t: t.replace("Halo", "o" * 10_001), Kind.VALUE, 2, "has 10,001 characters"),
            (lambda t: t.replace("Fade", '"Fa"de'), Kind.SYNTAX, 3, "breaks the rules of CSV"),
            (lambda t: t.replace("Fade", "Fa\rde"), Kind.SYNTAX, 3, "new-line character seen"),
            (lambda t: t.replace("Fade", "Fa,de"), Kind.SYNTAX, 3, "has 6 fields instead of 5"),
            (lambda t: t.replace("Halo,", ""), Kind.SYNTAX, 2, "has 4 fields instead of 5"),
            (lambda t: t.replace("p,1", "p,0"), Kind.DUPLICATE, 3, "has position 0 already"),
        ],
    )
    def test_a_row_that_cannot_be_used_is_told_and_left_out(
        self, tmp_path: Path, change: Callable[[str], str], kind: Kind, line: int, text: str
    ) -> None:
        found = problems(tmp_path, change(HEADER + ROWS) + "q,0,b,B,B\nq,1,c,C,C\n")
        errors = [problem for problem in found if problem.kind.is_error]
        assert [(error.kind, error.line) for error in errors] == [(kind, line)]
        assert text in errors[0].text

    def test_a_quotation_that_does_not_end_is_told_with_the_line_where_it_begins(
        self, tmp_path: Path
    ) -> None:
        text = HEADER + ROWS + 'q,0,b,"B,B\n' + "q,1,c,C,C\n" * 2
        with pytest.raises(CorpusError, match=r"^plays\.csv:4: the row that begins here bre"):
            read(tmp_path, plays=text)

    @pytest.mark.parametrize(
        ("header", "problem"),
        [
            ("", "lacks the columns playlist_id, position, song_id, title, artist"),
            (ROWS, "lacks the columns playlist_id"),
            (HEADER.replace(",", ";"), "lacks the columns"),
            (HEADER.replace("song_id", "Song_ID"), "lacks the columns song_id; name them"),
            (HEADER.replace("title", "song_id"), "lacks the columns title"),
            (HEADER.replace("artist", "artist,song_id"), "names the column song_id twice"),
            (HEADER.replace("artist", "artist,year,year"), "names the column year twice"),
        ],
    )
    def test_columns_that_are_not_what_they_should_be(
        self, tmp_path: Path, header: str, problem: str
    ) -> None:
        with pytest.raises(CorpusError) as caught:
            read(tmp_path, plays=header + ROWS if header else "")
        assert problem in str(caught.value)

    @pytest.mark.parametrize("year", ["91a", "-5", "10000", "19.5"])
    def test_a_year_that_is_none(self, tmp_path: Path, year: str) -> None:
        text = HEADER.replace("artist", "artist,year") + f"p,0,a,A,A,{year}\n"
        with pytest.raises(CorpusError, match=rf"^plays\.csv:2: year '{year}' is not a year"):
            read(tmp_path, plays=text)

    def test_a_song_that_is_described_in_two_ways_keeps_the_first_and_is_told_once(
        self, tmp_path: Path
    ) -> None:
        text = HEADER + ROWS + "q,0,a,Hello,B\nq,1,a,Halo,Beyoncé\nq,2,a,Hallo,B\n"
        (found,) = problems(tmp_path, text)
        assert (found.kind, found.line) == (Kind.CONFLICT, 4)
        assert read(tmp_path, plays=text)[1][0] == Song("a", "Halo", "Beyoncé")

    def test_a_position_that_is_skipped_is_told(self, tmp_path: Path) -> None:
        (found,) = problems(
            tmp_path,
            HEADER + ROWS.replace("p,1", "p,2") + "q,5,a,Halo,Beyoncé\nq,6,a,Halo,Beyoncé\n",
        )
        assert (found.kind, found.line) == (Kind.GAP, 3)
        assert "has position 2 but not 1" in found.text
