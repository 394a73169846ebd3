"""Artifacts that earlier versions of the program wrote are read, and answer as they did."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.recommender import artifact
from services.recommender.served import open_model
from tests.golden.write import GOLDEN, SONGS, answers, model

every_golden_artifact = pytest.mark.parametrize(
    "folder", sorted(GOLDEN.glob("*/")), ids=lambda folder: folder.name
)


def rounded(answers: Any) -> Any:
    """Without the last digits, in which machines differ."""
    if isinstance(answers, dict):
        return {key: rounded(value) for key, value in answers.items()}
    return [(song_id, pytest.approx(score, abs=1e-5)) for song_id, score in answers]


@every_golden_artifact
def test_it_answers_as_it_did(folder: Path) -> None:
    expected = json.loads((folder / "answers.json").read_text("utf-8"))
    assert answers(open_model(folder / "models")) == rounded(expected)


@every_golden_artifact
def test_it_holds_what_was_written(folder: Path) -> None:
    loaded, written = artifact.load(folder / "models"), model()
    assert tuple(loaded.catalogue[song] for song in range(len(loaded))) == SONGS
    assert loaded.play_counts.tolist() == written.play_counts.tolist()
    assert loaded.hyperparameters == written.hyperparameters
    assert loaded.statistics == written.statistics
    assert loaded.trained_at == written.trained_at


def test_there_is_one_of_each_format() -> None:
    assert len(list(GOLDEN.glob("*/models/*/manifest.json"))) >= artifact.FORMAT_VERSION
