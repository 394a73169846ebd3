"""Song models on disk: what was saved comes back, and nothing else is taken for a model."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
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
from services.recommender.model import SongModel
from services.recommender.versions import CURRENT

ARRAYS = (
    "artists_data",
    "artists_offsets",
    "by_id",
    "ids_data",
    "ids_offsets",
    "output_vectors",
    "play_counts",
    "tag_names_data",
    "tag_names_offsets",
    "tag_offsets",
    "tags",
    "titles_data",
    "titles_offsets",
    "vectors",
    "years",
)

every_array = pytest.mark.parametrize("name", ARRAYS)


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


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the manifest says."""
    file = folder / artifact.MANIFEST
    manifest = json.loads(file.read_text("utf-8"))
    change(manifest)
    file.write_text(json.dumps(manifest), "utf-8")


def attest(folder: Path, name: str, array: NDArray[Any] | None = None) -> None:
    """Correct an array's checksum in the manifest, and dtype and shape where those are given."""
    data = (folder / f"{name}.npy").read_bytes()
    entry: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest()}
    if array is not None:
        entry |= {"dtype": array.dtype.str, "shape": array.shape}
    edit(folder, lambda manifest: manifest["arrays"][name].update(entry))


def rewrite(folder: Path, name: str, array: NDArray[Any]) -> None:
    np.save(folder / f"{name}.npy", array)


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

    def test_arrays_are_mapped_from_the_file_and_cannot_be_written(self, pristine: Path) -> None:
        loaded = artifact.load(pristine)
        arrays = [loaded.vectors, loaded.output_vectors, loaded.play_counts]
        for array in [*arrays, *loaded.catalogue.arrays().values()]:
            assert isinstance(array, np.memmap)
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_the_files_are_the_arrays_and_a_manifest(self, folder: Path) -> None:
        expected = {*(f"{name}.npy" for name in ARRAYS), artifact.MANIFEST}
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


class TestDamagedArrays:
    @every_array
    @pytest.mark.parametrize("byte", [0, 9, 100, -1], ids=["magic", "header", "padding", "last"])
    def test_a_flipped_bit(self, models: Path, folder: Path, name: str, byte: int) -> None:
        flip(folder / f"{name}.npy", byte, 0)
        check_refused(models, folder / f"{name}.npy", "was damaged or changed after training")

    @settings(max_examples=200)
    @given(data=st.data())
    def test_any_flipped_bit(self, pristine: Path, data: st.DataObject) -> None:
        version = artifact.load(pristine).version
        file = pristine / version / f"{data.draw(st.sampled_from(ARRAYS))}.npy"
        byte = data.draw(st.integers(0, file.stat().st_size - 1))
        bit = data.draw(st.integers(0, 7))
        flip(file, byte, bit)
        try:
            check_refused(pristine, file, "was damaged or changed after training")
        finally:
            flip(file, byte, bit)

    @every_array
    @pytest.mark.parametrize("left", [0, 5, 100, -1])
    def test_a_truncated_file(self, models: Path, folder: Path, name: str, left: int) -> None:
        file = folder / f"{name}.npy"
        os.truncate(file, left if left >= 0 else file.stat().st_size + left)
        check_refused(models, file, "was damaged or changed after training")

    @every_array
    def test_a_missing_file(self, models: Path, folder: Path, name: str) -> None:
        (folder / f"{name}.npy").unlink()
        check_refused(models, folder / f"{name}.npy", "cannot be read: No such file")

    @every_array
    def test_a_folder_in_place_of_a_file(self, models: Path, folder: Path, name: str) -> None:
        (folder / f"{name}.npy").unlink()
        (folder / f"{name}.npy").mkdir()
        check_refused(models, folder / f"{name}.npy", "is no ordinary file")


class TestArraysOfAnotherProgram:
    """Their checksums are right, so only what they hold gives them away."""

    @every_array
    def test_another_dtype_than_the_manifest_says(
        self, models: Path, folder: Path, name: str
    ) -> None:
        rewrite(folder, name, np.load(folder / f"{name}.npy").astype(np.float16))
        attest(folder, name)
        check_refused(models, folder / f"{name}.npy", "holds <f2")

    @every_array
    def test_another_shape_than_the_manifest_says(
        self, models: Path, folder: Path, name: str
    ) -> None:
        rewrite(folder, name, np.load(folder / f"{name}.npy")[:-1])
        attest(folder, name)
        check_refused(models, folder / f"{name}.npy", "instead of")

    @every_array
    @pytest.mark.parametrize("dtype", ["<f8", "<u2", ">i8"])
    def test_a_dtype_that_no_model_has(
        self, models: Path, folder: Path, name: str, dtype: str
    ) -> None:
        array = np.load(folder / f"{name}.npy").astype(dtype)
        rewrite(folder, name, array)
        attest(folder, name, array)
        check_refused(models, folder, name)

    @every_array
    @pytest.mark.parametrize(
        "change",
        [lambda array: array[:-1], lambda array: array[None], lambda array: array.flat[:1][0]],
        ids=["shorter", "deeper", "one number"],
    )
    def test_a_shape_that_does_not_fit_the_other_arrays(
        self,
        models: Path,
        folder: Path,
        name: str,
        change: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> None:
        array = np.asarray(change(np.load(folder / f"{name}.npy")))
        rewrite(folder, name, array)
        attest(folder, name, array)
        check_refused(models, folder, "its arrays do not fit together")

    @pytest.mark.parametrize("name", ["vectors", "output_vectors"])
    @pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite(
        self, models: Path, folder: Path, name: str, number: float
    ) -> None:
        array = np.load(folder / f"{name}.npy")
        array[3, 1] = number
        rewrite(folder, name, array)
        attest(folder, name)
        check_refused(models, folder, f"{name} holds numbers that are not finite")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x93NUMPY",
            b"PK\x03\x04 not a zip",
            b"PK\x05\x06" + bytes(18),
            b"\x80\x05N.",
            b"?",
        ],
        ids=["empty", "cut", "broken zip", "empty zip", "pickle", "text"],
    )
    def test_bytes_that_are_no_array(self, models: Path, folder: Path, data: bytes) -> None:
        (folder / "vectors.npy").write_bytes(data)
        attest(folder, "vectors")
        check_refused(models, folder / "vectors.npy", "is no array")

    def test_pickled_objects_are_never_read(self, models: Path, folder: Path) -> None:
        np.save(folder / "vectors.npy", np.array([{}]), allow_pickle=True)
        attest(folder, "vectors")
        check_refused(models, folder / "vectors.npy", "is no array")


class TestManifests:
    @every_array
    def test_without_one_of_the_arrays(self, models: Path, folder: Path, name: str) -> None:
        edit(folder, lambda manifest: manifest["arrays"].pop(name))
        check_refused(models, folder, f"the array '{name}' is missing")

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '"text"', "{}", "\x00", "[" * 100_000, "\ud800"]
    )
    def test_that_are_no_manifest(self, models: Path, folder: Path, text: str) -> None:
        (folder / artifact.MANIFEST).write_bytes(text.encode(errors="surrogatepass"))
        check_refused(models, folder / artifact.MANIFEST, "is not as this program writes it")

    @pytest.mark.parametrize("number", [0, 2, "1", None])
    def test_of_a_format_that_is_not_known(self, models: Path, folder: Path, number: Any) -> None:
        edit(folder, lambda manifest: manifest.update(format_version=number))
        check_refused(models, folder / artifact.MANIFEST, "format_version is not as this program")

    @pytest.mark.parametrize(
        "field", ["version", "trained_at", "hyperparameters", "statistics", "arrays"]
    )
    def test_that_lack_a_field(self, models: Path, folder: Path, field: str) -> None:
        edit(folder, lambda manifest: manifest.pop(field))
        check_refused(models, folder / artifact.MANIFEST, f"{field} is not as this program")

    @pytest.mark.parametrize("name", ["../vectors", "/etc/passwd", "", "Vectors", "a b", "a\n"])
    def test_that_name_a_file_elsewhere(self, models: Path, folder: Path, name: str) -> None:
        edit(folder, lambda manifest: manifest["arrays"].update({name: manifest["arrays"]["tags"]}))
        check_refused(models, folder / artifact.MANIFEST, "is no name of an array")

    def test_of_another_vector_size(self, models: Path, folder: Path) -> None:
        edit(folder, lambda manifest: manifest["hyperparameters"].update(vector_size=17))
        check_refused(models, folder, "vectors is float32 (60, 16) for 60 songs")

    def test_of_another_version(self, models: Path, folder: Path) -> None:
        edit(folder, lambda manifest: manifest.update(version="another"))
        check_refused(models, folder / artifact.MANIFEST, "is the manifest of another")

    def test_that_are_not_there(self, models: Path, folder: Path) -> None:
        (folder / artifact.MANIFEST).unlink()
        check_refused(models, folder / artifact.MANIFEST, "cannot be read: No such file")


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
