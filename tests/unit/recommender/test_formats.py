"""Which format a corpus is in."""

from pathlib import Path

import pytest

from services.recommender.formats import CorpusError, mpd, read_corpus, text
from services.recommender.formats.problems import Kind
from tests.unit.recommender.format_suite import (
    PLAYLISTS,
    Files,
    csv_files,
    mpd_files,
    write,
    yes_files,
)

FORMATS = {"yes": yes_files(PLAYLISTS), "csv": csv_files(PLAYLISTS), "mpd": mpd_files(PLAYLISTS)}


@pytest.mark.parametrize("files", FORMATS.values(), ids=FORMATS)
def test_files_of_no_format_may_lie_beside_a_corpus(tmp_path: Path, files: Files) -> None:
    others = {"README.md": "csv", "stats.json": "{}", "plays.csv.part": "", "x.tsv": ""}
    assert len(read_corpus(write(tmp_path, files | others)).playlists) == 3


def test_a_folder_of_two_formats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"several formats: .* and plays\.csv") as caught:
        read_corpus(write(tmp_path, FORMATS["yes"] | FORMATS["csv"]))
    assert caught.value.problem.kind is Kind.FILE


def test_a_folder_of_no_format_is_told_the_names_that_files_have(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"train\.txt and .*\*\.csv.*mpd\.slice\.\*\.json"):
        read_corpus(write(tmp_path, {"songs.xlsx": "", "mpd.slice.json": ""}))


def test_a_file_of_no_format(tmp_path: Path) -> None:
    write(tmp_path, {"songs.xlsx": ""})
    with pytest.raises(CorpusError, match=r"^songs\.xlsx: holds no corpus"):
        read_corpus(tmp_path / "songs.xlsx")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "mpd.slice.0-1.json", "train.txt"])
def test_a_place_where_nothing_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=f"^{name}: there is no such file in {tmp_path}; give"):
        read_corpus(tmp_path / name)


@pytest.mark.parametrize("name", ["plays.csv", "mpd.slice.0-1.json", "train.txt"])
def test_a_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CorpusError, match=f"^{name}: cannot be read: Is a directory; check"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("name", ["yes", "csv"])
def test_a_line_that_does_not_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(text, "_MAX_LINE", 15)
    with pytest.raises(CorpusError, match="is longer than 15 bytes") as caught:
        read_corpus(write(tmp_path, FORMATS[name]))
    assert caught.value.problem.line is not None


def test_a_slice_that_is_none_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpd, "_MAX_SLICE", 100)
    with pytest.raises(CorpusError, match="is larger than 100 bytes; cut it into slices"):
        read_corpus(write(tmp_path, FORMATS["mpd"]))
