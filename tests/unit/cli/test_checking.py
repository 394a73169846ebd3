"""`segue data check`."""

from pathlib import Path

from typer.testing import CliRunner

from cli.main import app

PLAYS = "playlist_id,position,song_id,title,artist\np,0,a,Halo,[b]Beyoncé\np,1,b,Fade,Metallica\n"


def check(folder: Path, text: str, *flags: str) -> tuple[int, list[str]]:
    (folder / "plays.csv").write_text(text, "utf-8")
    done = CliRunner().invoke(app, ["data", "check", str(folder), *flags])
    return done.exit_code, done.output.splitlines()


def test_of_a_sound_corpus_it_tells_the_size(tmp_path: Path) -> None:
    code, lines = check(tmp_path, PLAYS)
    assert code == 0
    assert lines == [f"{tmp_path.name}: 2 songs, 1 playlists, 2 plays"]


def test_warnings_leave_the_exit_code_at_0(tmp_path: Path) -> None:
    code, lines = check(tmp_path, PLAYS + "q,0,b,Fade,Metallica\n")
    assert code == 0
    assert lines == [
        "warning: playlists of fewer than two songs: left out (1)",
        "  plays.csv:4: playlist 'q' has one song.",
        f"{tmp_path.name}: 2 songs, 1 playlists, 2 plays",
    ]


def test_of_each_kind_it_prints_the_first_and_how_many_more(tmp_path: Path) -> None:
    code, lines = check(tmp_path, PLAYS + "q,[x],a,A,A\n" * 3 + "q,0\n", "--shown=2")
    assert code == 1
    advice = "is not a number; write it as digits, from 0 on."
    assert lines == [
        "error: rows and files that break the format (1)",
        "  plays.csv:7: has 2 fields instead of 5, as line 1 names them.",
        "error: values that cannot be used (3)",
        f"  plays.csv:4: position '[x]' {advice}",
        f"  plays.csv:5: position '[x]' {advice}",
        "  and 1 more",
    ]


def test_a_place_where_nothing_is(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert f"none: there is no such file in {tmp_path}" in done.output
