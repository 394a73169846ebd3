"""A song model on disk: a folder a version, arrays that can be mapped, and a manifest.

- `models/20261124T083000Z-1a2b3c4d/manifest.json` holds settings, statistics, and a checksum for
  each array.
- `vectors.npy`, `titles_data.npy` and so on lie beside it.
"""

import hashlib
import re
import stat
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from services.recommender.blend import Blend
from services.recommender.catalogue import Catalogue, hash_ids, number_artists
from services.recommender.columns import StringColumn
from services.recommender.continuations import Continuations
from services.recommender.model import (
    CorpusStatistics,
    Evaluation,
    Hyperparameters,
    SongModel,
    unit,
)
from services.recommender.search import SongSearch
from services.recommender.versions import ArtifactError as ArtifactError
from services.recommender.versions import Versions

FORMAT_VERSION = 2
MANIFEST = "manifest.json"


class ArrayEntry(BaseModel):
    """What the manifest says of one array."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[NonNegativeInt, ...]
    sha256: str


class Manifest(BaseModel):
    """`manifest.json`."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1, 2]
    version: str
    trained_at: datetime
    hyperparameters: Hyperparameters
    statistics: CorpusStatistics
    blend: Blend = Blend(vector_share=1.0)
    trained: int | None = None
    evaluation: Evaluation | None = None
    arrays: dict[str, ArrayEntry]


def save(model: SongModel, models: Path) -> Path:
    """Write a model as a new version and make it the current one; gives its folder.

    A reader sees either all of it or nothing.

    Raises:
        ArtifactError: it cannot be written, or the version is there already.
    """
    folder = models / model.version
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models, prefix=".writing-") as scratch:
            made = Path(scratch) / "version"
            made.mkdir()
            _write(model, made)
            made.rename(folder)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}; check its place and its rights"
        raise ArtifactError(folder, problem) from None
    Versions(models).activate(model.version)
    return folder


def load(models: Path, version: str | None = None) -> SongModel:
    """Map a version read-only, after all of it has been checked.

    Args:
        models: The folder that `save` was given.
        version: Which one; the current one by default.

    Raises:
        ArtifactError: there is none, or it is not what its manifest says.
    """
    versions = Versions(models)
    folder = versions.folder_of(version or versions.current())
    manifest = read_manifest(folder)
    arrays = {name: _map(folder, name, entry) for name, entry in manifest.arrays.items()}
    if manifest.format_version == 1:
        arrays = _upgraded(folder, arrays, manifest.hyperparameters.vector_size)
    return _model(folder, manifest, arrays)


def read_manifest(folder: Path) -> Manifest:
    """What a version says of itself; its arrays are not looked at.

    Raises:
        ArtifactError: it says nothing that this program understands.
    """
    file = folder / MANIFEST
    try:
        _check_ordinary(file)
        manifest = Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArtifactError(file, f"cannot be read: {error.strerror}; train again") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        problem = f"{place} is not as this program writes it: {first['msg']}; train again"
        raise ArtifactError(file, problem) from None
    if manifest.version != folder.name:
        problem = f"is the manifest of {manifest.version}, not of this folder; train again"
        raise ArtifactError(file, problem)
    return manifest


def _arrays(model: SongModel) -> dict[str, NDArray[Any]]:
    return {
        **model.catalogue.arrays(),
        **model.search.arrays(),
        "vectors": model.vectors,
        "unit_vectors": model.unit_vectors,
        "output_vectors": model.output_vectors,
        "play_counts": model.play_counts,
        "plays": model.continuations.songs,
        "play_bounds": model.continuations.bounds,
        "places": model.continuations.places,
        "place_before": model.continuations.before,
        "place_after": model.continuations.after,
        "place_lengths": model.continuations.lengths,
        "place_offsets": model.continuations.offsets,
    }


def _write(model: SongModel, folder: Path) -> None:
    entries = {}
    for name, array in _arrays(model).items():
        file = folder / f"{name}.npy"
        np.save(file, array, allow_pickle=False)
        entries[name] = ArrayEntry(dtype=array.dtype.str, shape=array.shape, sha256=_sha256(file))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        version=model.version,
        trained_at=model.trained_at,
        hyperparameters=model.hyperparameters,
        statistics=model.statistics,
        blend=model.blend,
        trained=model.trained,
        evaluation=model.evaluation,
        arrays=entries,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _map(folder: Path, name: str, entry: ArrayEntry) -> NDArray[Any]:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ArtifactError(folder / MANIFEST, f"{name!r} is no name of an array; train again")
    file = folder / f"{name}.npy"
    try:
        _check_ordinary(file)
        if _sha256(file) != entry.sha256:
            raise ArtifactError(file, "was damaged or changed after training; train again")
        array = _open(file)
    except OSError as error:
        raise ArtifactError(file, f"cannot be read: {error.strerror}; train again") from None
    if array.dtype.str != entry.dtype or array.shape != entry.shape:
        found = f"{array.dtype.str} {array.shape}"
        problem = f"holds {found} instead of {entry.dtype} {entry.shape}; train again"
        raise ArtifactError(file, problem)
    if not array.flags.c_contiguous:
        raise ArtifactError(file, "holds columns instead of rows; train again")
    return array


def _open(file: Path) -> NDArray[Any]:
    try:
        # A plain array over the map: the subclass is slow to take items from.
        array: NDArray[Any] = np.asarray(open_memmap(file, mode="r"))
    except OSError:
        raise
    except Exception:
        # The header is a Python literal, and numpy raises nearly anything on a forged one.
        raise ArtifactError(file, "is no array that can be mapped; train again") from None
    return array


def _check_ordinary(file: Path) -> None:
    """Refuse a link, which may lead anywhere, and a pipe, which would be waited for."""
    if not stat.S_ISREG(file.lstat().st_mode):
        raise ArtifactError(file, "is no ordinary file; put the file itself there or train again")


def _model(folder: Path, manifest: Manifest, arrays: dict[str, NDArray[Any]]) -> SongModel:
    try:
        model = SongModel(
            version=manifest.version,
            vectors=arrays.pop("vectors"),
            unit_vectors=arrays.pop("unit_vectors"),
            output_vectors=arrays.pop("output_vectors"),
            play_counts=arrays.pop("play_counts"),
            continuations=Continuations(
                songs=arrays.pop("plays"),
                bounds=arrays.pop("play_bounds"),
                places=arrays.pop("places"),
                before=arrays.pop("place_before"),
                after=arrays.pop("place_after"),
                lengths=arrays.pop("place_lengths"),
                offsets=arrays.pop("place_offsets"),
            ),
            catalogue=(catalogue := Catalogue(arrays)),
            stored_search=SongSearch(catalogue, arrays),
            trained=len(catalogue) if manifest.trained is None else manifest.trained,
            blend=manifest.blend,
            evaluation=manifest.evaluation,
            hyperparameters=manifest.hyperparameters,
            statistics=manifest.statistics,
            trained_at=manifest.trained_at,
        )
        _check(model)
    except KeyError as error:
        raise ArtifactError(folder, f"the array {error} is missing; train again") from None
    except ValueError as error:
        raise ArtifactError(
            folder, f"its arrays do not fit together: {error}; train again"
        ) from None
    return model


def _upgraded(
    folder: Path, arrays: dict[str, NDArray[Any]], dimensions: int
) -> dict[str, NDArray[Any]]:
    """Give a model of format 1 the arrays that came with format 2; it held no playlists."""
    try:
        ids = StringColumn.among(arrays, "ids")
        artists = StringColumn.among(arrays, "artists")
        vectors = arrays["vectors"]
        _check_vectors("vectors", vectors, (len(ids), dimensions))
        arrays = {name: array for name, array in arrays.items() if name != "by_id"}
        arrays |= {
            "id_slots": hash_ids(ids.all_encoded()),
            "artist_numbers": number_artists(artists[row] for row in range(len(artists))),
            "unit_vectors": unit(vectors),
            "plays": np.empty(0, np.int32),
            "play_bounds": np.zeros(1, np.int64),
            "places": np.empty(0, np.int32),
            "place_before": np.empty(0, np.uint8),
            "place_after": np.empty(0, np.uint8),
            "place_lengths": np.empty(0, np.uint16),
            "place_offsets": np.zeros(len(ids) + 1, np.int64),
        }
        return arrays | SongSearch.from_catalogue(Catalogue(arrays)).arrays()
    except (KeyError, ValueError, TypeError, IndexError) as error:
        problem = f"its arrays do not fit together: {error}; train again"
        raise ArtifactError(folder, problem) from None


def _check(model: SongModel) -> None:
    """Raise ValueError unless the arrays are of one model."""
    songs, dimensions = len(model.catalogue), model.hyperparameters.vector_size
    for name, array in (
        ("vectors", model.vectors),
        ("unit_vectors", model.unit_vectors),
        ("output_vectors", model.output_vectors),
    ):
        _check_vectors(name, array, (songs, dimensions))
    if model.play_counts.shape != (songs,) or model.play_counts.dtype != np.int64:
        raise ValueError(f"play_counts is {model.play_counts.shape} for {songs} songs")
    if songs == 0:
        raise ValueError("there is no song")
    if not 0 < model.trained <= songs:
        raise ValueError(f"{model.trained} of {songs} songs are trained")
    model.continuations.check()
    if len(model.continuations.offsets) != songs + 1:
        raise ValueError(f"place_offsets has {len(model.continuations.offsets)} rows")
    if np.any(model.play_counts[1:] > model.play_counts[:-1]) or model.play_counts[-1] < 0:
        raise ValueError("play_counts is not from the most to the least played song")


def _check_vectors(name: str, array: NDArray[Any], shape: tuple[int, int]) -> None:
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"{name} is {array.dtype} {array.shape} for {shape[0]} songs")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
