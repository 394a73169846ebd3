"""Where `segue train` takes its playlists from."""

from pathlib import Path

import pytest

from cli.training import TrainError, read_corpus, train_model

PLAYS = "playlist_id,position,song_id,title,artist\np,0,a,Halo,Beyoncé\np,1,b,Fade,Metallica\n"


def test_a_file_or_the_folder_that_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "plays.csv").write_text(PLAYS, "utf-8")
    for place in (tmp_path, tmp_path / "plays.csv"):
        assert len(read_corpus(str(place)).catalogue) == 2


def test_the_built_in_playlists() -> None:
    assert len(read_corpus("starter").catalogue) == 600


def test_malformed_playlists_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "plays.csv").write_text(PLAYS.replace("p,1", "p,x"), "utf-8")
    with pytest.raises(TrainError, match=r"^plays\.csv:3: position 'x' is not a number"):
        train_model(str(tmp_path), "radio", tmp_path / "models")
    assert not (tmp_path / "models").exists()
