"""The benchmark of training, on a corpus too small to measure anything."""

import json

import pytest

from benchmarks.training import LENGTH, main


def test_it_compares_with_bare_gensim(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--playlists=20", "--rounds=3", "--workers=1"])
    *rounds, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert [line.split(":")[0] for line in rounds] == ["round 1", "round 2", "round 3"]
    assert set(figures) == {"segue_words_per_second", "gensim_words_per_second", "ratio"}
    assert all(figure > 0 for figure in figures.values())


def test_it_measures_the_memory_of_a_process_that_reads_and_learns(
    capfd: pytest.CaptureFixture[str],
) -> None:
    main(["--million", "--playlists=20", "--workers=1"])
    read, learnt, last = capfd.readouterr().out.splitlines()
    assert read.startswith(f"read {20 * LENGTH:,} plays in ")
    assert learnt.startswith("learnt from them in ")
    figures = json.loads(last)
    assert figures["plays"] == 20 * LENGTH
    assert 0 < figures["peak_rss_gib"] < 4
