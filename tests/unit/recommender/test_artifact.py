"""Song models on disk: what was saved comes back, and nothing else is taken for a model."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender import artifact
from services.recommender.artifact import ArtifactError
from services.recommender.model import Evaluation, Metrics, SongModel
from services.recommender.versions import CURRENT


@pytest.fixture(scope="module")
def pristine(tiny_model: SongModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that no test may change."""
    models = tmp_path_factory.mktemp("pristine")
    artifact.save(tiny_model, models)
    return models


@pytest.fixture
def models(pristine: Path, tmp_path: Path) -> Path:
    """A folder of models to be damaged."""
    return shutil.copytree(pristine, tmp_path / "models")


@pytest.fixture
def folder(models: Path, tiny_model: SongModel) -> Path:
    """The only version in `models`."""
    return models / tiny_model.version


def flip(file: Path, byte: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 1 << bit
    file.write_bytes(data)


def check_refused(models: Path, named: Path, problem: str = "") -> None:
    with pytest.raises(ArtifactError) as caught:
        artifact.load(models)
    assert caught.value.path == named
    assert str(caught.value).startswith(f"{named}: ")
    assert problem in str(caught.value)
    assert "train" in caught.value.problem


class TestRoundTrip:
    def test_a_loaded_model_equals_the_one_that_was_saved(
        self, pristine: Path, tiny_model: SongModel
    ) -> None:
        loaded = artifact.load(pristine)
        assert loaded.version == tiny_model.version
        assert loaded.hyperparameters == tiny_model.hyperparameters
        assert loaded.statistics == tiny_model.statistics
        assert loaded.trained_at == tiny_model.trained_at
        np.testing.assert_array_equal(loaded.vectors, tiny_model.vectors)
        np.testing.assert_array_equal(loaded.output_vectors, tiny_model.output_vectors)
        np.testing.assert_array_equal(loaded.play_counts, tiny_model.play_counts)
        for position in range(len(tiny_model)):
            song = tiny_model.catalogue[position]
            assert loaded.catalogue[position] == song
            assert loaded.catalogue.position(song.id) == position

    def test_what_was_measured_comes_back_with_it(
        self, tiny_model: SongModel, tmp_path: Path
    ) -> None:
        figures = (Metrics("segue", 0.25, 0.1, 1 / 3, 1.0), Metrics("popularity", 0, 0, 0, 0.125))
        evaluation = Evaluation(targets=1234, metrics=figures)
        artifact.save(replace(tiny_model, evaluation=evaluation), tmp_path)
        assert artifact.load(tmp_path).evaluation == evaluation

    def test_a_model_that_was_not_measured_says_nothing_of_it(self, pristine: Path) -> None:
        assert artifact.load(pristine).evaluation is None

    def test_arrays_are_mapped_from_the_file_and_cannot_be_written(self, pristine: Path) -> None:
        loaded = artifact.load(pristine)
        arrays: list[NDArray[Any]] = [loaded.vectors, loaded.output_vectors, loaded.play_counts]
        for array in arrays + list(loaded.catalogue.arrays().values()):
            assert isinstance(array.base, np.memmap)
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_the_files_are_the_arrays_and_a_manifest(self, folder: Path) -> None:
        arrays = artifact.read_manifest(folder).arrays
        expected = {*(f"{name}.npy" for name in arrays), artifact.MANIFEST}
        assert {file.name for file in folder.iterdir()} == expected

    def test_a_saved_model_can_be_saved_again_elsewhere(
        self, pristine: Path, tmp_path: Path
    ) -> None:
        artifact.save(artifact.load(pristine), tmp_path / "a" / "b")
        assert len(artifact.load(tmp_path / "a" / "b")) == len(artifact.load(pristine))


class TestVersions:
    def test_the_one_saved_last_is_current_and_the_others_stay(
        self, models: Path, tiny_model: SongModel
    ) -> None:
        later = replace(
            tiny_model, version="later", trained_at=tiny_model.trained_at + timedelta(days=1)
        )
        assert artifact.save(later, models) == models / "later"
        assert artifact.load(models).trained_at == later.trained_at
        assert artifact.load(models, tiny_model.version).trained_at == tiny_model.trained_at

    def test_nothing_else_is_left_behind(self, models: Path, folder: Path) -> None:
        assert {entry.name for entry in models.iterdir()} == {folder.name, CURRENT}

    def test_a_save_that_fails_leaves_all_as_it_was(
        self, models: Path, folder: Path, tiny_model: SongModel
    ) -> None:
        broken = replace(tiny_model, version="broken", vectors=np.array([object()], dtype=object))
        with pytest.raises(ValueError, match="Object arrays cannot be saved"):
            artifact.save(broken, models)
        assert {entry.name for entry in models.iterdir()} == {folder.name, CURRENT}
        assert artifact.load(models).version == tiny_model.version


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_told_by_the_checksum(pristine: Path, data: st.DataObject) -> None:
    version = artifact.load(pristine).version
    file = data.draw(st.sampled_from(sorted((pristine / version).glob("*.npy"))))
    byte = data.draw(st.integers(0, file.stat().st_size - 1))
    bit = data.draw(st.integers(0, 7))
    flip(file, byte, bit)
    try:
        check_refused(pristine, file, "was damaged or changed after training")
    finally:
        flip(file, byte, bit)


class TestFolders:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        check_refused(tmp_path / "none", tmp_path / "none", "there is no such folder")

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        check_refused(tmp_path / "file", tmp_path / "file", "there is no such folder")

    def test_a_folder_without_models(self, tmp_path: Path) -> None:
        check_refused(tmp_path, tmp_path / CURRENT, "names no version")

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b"../models", b"/etc", b"..", b"a\x00b", b"a" * 5000]
    )
    def test_a_current_that_is_no_version(self, models: Path, content: bytes) -> None:
        (models / CURRENT).write_bytes(content)
        check_refused(models, models / CURRENT, "is no version")

    def test_a_current_that_is_not_text(self, models: Path) -> None:
        (models / CURRENT).write_bytes(b"\xff\xfe")
        check_refused(models, models / CURRENT, "names no version")

    def test_a_current_that_names_a_version_that_is_gone(self, models: Path) -> None:
        (models / CURRENT).write_text("gone\n")
        check_refused(models, models / "gone", "there is no such version")

    @pytest.mark.parametrize("version", ["gone", "..", ".", "current", "a\x00b"])
    def test_a_version_that_is_not_there(self, models: Path, version: str) -> None:
        with pytest.raises(ArtifactError, match="train"):
            artifact.load(models, version)
