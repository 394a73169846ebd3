"""`segue evaluate`: one JSON object or tables, and a page."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from services.recommender.evaluation.baselines import BASELINES
from services.recommender.playlists import Corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kinds_corpus: Corpus) -> Path:
    """200 of the playlists in the Yes.com format, without tags."""
    folder = tmp_path_factory.mktemp("kinds")
    catalogue = kinds_corpus.catalogue
    playlists = [kinds_corpus.playlists[number].tolist() for number in range(200)]
    plays = np.bincount(np.concatenate(playlists), minlength=len(catalogue))
    lines = [range(len(catalogue)), plays.tolist(), *playlists]
    (folder / "train.txt").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    rows = (f"{k}\t{catalogue.titles[k]}\t{catalogue.artists[k]}\n" for k in range(len(catalogue)))
    (folder / "song_hash.txt").write_text("".join(rows))
    return folder


def evaluate(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_json_is_all_that_standard_output_gets(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, output, errors = evaluate(
        "--data", folder, "--preset", "book", "--format", "json", "--report", page
    )
    assert code == 0
    document = json.loads(output)
    assert output.count("\n") == 1
    assert document["corpus"] == folder.name
    assert document["part"] == "test"
    assert list(document["models"]) == ["segue", *BASELINES]
    for figures in document["models"].values():
        assert 0 <= figures["hr@10"] <= 1
        assert {"mrr@10", "ndcg@10", "coverage@10", "intervals"} <= figures.keys()
    assert "measuring" in errors
    assert "<script>alert(" not in page.read_text("utf-8").split("<body>")[1]


def test_tables_name_every_model(folder: Path) -> None:
    code, output, _ = evaluate("--data", folder, "--preset", "book", "--part", "validation")
    assert code == 0
    assert "validation playlists" in " ".join(output.split())
    first_words = [line.split()[0] for line in output.splitlines() if line.strip()]
    for name in ("segue", *BASELINES):
        assert first_words.count(name) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--preset", "none"], "there is no preset 'none'; known are: "),
        (["--data", "no/such/folder"], "there is no such file in "),
        (["--report", "no/such/folder/page.html"], "there is no folder "),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], problem: str) -> None:
    code, output, errors = evaluate(*arguments)
    assert (code, output) == (1, "")
    assert problem in errors
    assert "Traceback" not in errors


def test_a_corpus_that_is_too_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("x y\n3 3\n0 1\n1 0\n0 1\n")
    (tmp_path / "song_hash.txt").write_text("0\tA\tB\n1\tC\tD\n")
    code, _, errors = evaluate("--data", tmp_path)
    assert code == 1
    assert "the test part of" in errors
