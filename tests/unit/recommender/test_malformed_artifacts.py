"""Whatever is wrong with an artifact is told, by file and with what to do; and it is not loaded.

Every damage is done to every array that the manifests of the golden artifacts list, so that arrays
of a later format are covered as soon as there is a golden artifact with them.
"""

import hashlib
import io
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.format import header_data_from_array_1_0
from numpy.typing import NDArray

from services.recommender import artifact
from services.recommender.artifact import MANIFEST, ArtifactError
from tests.golden.write import GOLDEN

Array = NDArray[Any]
FileDamage = Callable[[Path], object]
Applies = Callable[[str, Array], bool]


def flip(file: Path, byte: int) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 1
    file.write_bytes(data)


def cut(file: Path, byte: int) -> None:
    file.write_bytes(file.read_bytes()[:byte])


def link(file: Path) -> None:
    file.rename(file.with_suffix(".elsewhere"))
    file.symlink_to(file.with_suffix(".elsewhere"))


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


TO_EVERY_FILE: dict[str, FileDamage] = {
    "empty": lambda file: cut(file, 0),
    "cut at its end": lambda file: cut(file, -3),
    "missing": Path.unlink,
    "a link": link,
}

# What only a checksum tells.
TO_EVERY_ARRAY: dict[str, FileDamage] = {
    "changed in the header": lambda file: flip(file, 20),
    "changed in the last byte": lambda file: flip(file, -1),
}

# What is the same whichever the file, and is tried with a manifest and an array of each type.
TO_SOME_FILES: dict[str, FileDamage] = {
    "cut after 60 bytes": lambda file: cut(file, 60),
    "changed in the first byte": lambda file: flip(file, 0),
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
}


def npy(array: Array, **lies: Any) -> bytes:
    """The file of an array, whose header may lie."""
    if lies:
        return forged_npy(repr(header_data_from_array_1_0(array) | lies), array.tobytes())
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def forged_npy(header: str, data: bytes = bytes(64)) -> bytes:
    """A file of an array with any text for its header."""
    text = header.encode("latin1")
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + data


# Files with the right checksum that are not what the manifest says; for an array of each type.
FORGED_FILES: dict[str, Callable[[Array], bytes]] = {
    "nothing": lambda array: b"",
    "text": lambda array: b"songs",
    "a pickle": lambda array: b"\x80\x05N.",
    "an empty zip": lambda array: b"PK\x05\x06" + bytes(18),
    "pickled objects": lambda array: npy(np.array([{}, None], dtype=object)),
    "objects by the header": lambda array: npy(array, descr="|O"),
    "another type": lambda array: npy(array.astype(np.float16)),
    "big-endian": lambda array: npy(array.astype(">i8")),
    "a row less": lambda array: npy(array[:-1]),
    "less than the header says": lambda array: npy(array)[:-1],
    "a huge shape": lambda array: npy(array, shape=(2**60, 8)),
    "a shape beyond 64 bits": lambda array: npy(array, shape=(10**30,)),
    "a shape whose product overflows": lambda array: npy(array, shape=(2**32, 2**32)),
    "a negative shape": lambda array: npy(array, shape=(-1,)),
    "a shape of truths": lambda array: npy(array, shape=(True,)),
    "a hundred dimensions": lambda array: npy(array, shape=(1,) * 100),
    "records": lambda array: npy(array, descr=[("a", "<i4")]),
    "a type that is none": lambda array: npy(array, descr="zz"),
    "a type of nothing": lambda array: npy(array, descr=()),
    "a header with a number for a name": lambda array: forged_npy("{1: 2, 'descr': '<f4'}"),
    "a header nested deep": lambda array: forged_npy("(" * 9000),
    "a header of signs": lambda array: forged_npy("-" * 9000 + "1"),
    "an endless header": lambda array: forged_npy(" " * 20_000),
    "a header that calls": lambda array: forged_npy("__import__('os').abort()"),
    "a later version of the format": lambda array: b"\x93NUMPY\x09" + npy(array)[7:],
}


def one_changed(value: float) -> Callable[[Array], Array]:
    """Gives the array with one item in the middle changed."""

    def change(array: Array) -> Array:
        changed = array.copy()
        changed.flat[array.size // 2] = value
        return changed

    return change


def everywhere(name: str, array: Array) -> bool:
    return True


def in_floats(name: str, array: Array) -> bool:
    return array.dtype.kind == "f"


def in_numbers_with_a_range(name: str, array: Array) -> bool:
    return array.dtype.kind == "i" and name != "years"


# Arrays that are as the manifest says and still none of a model, and where that can be told.
FORGED_ARRAYS: dict[str, tuple[Callable[[Array], Array], Applies]] = {
    "another type": (lambda array: array.astype(np.float16), everywhere),
    "big-endian": (lambda array: array.astype(">i8"), everywhere),
    "a row less": (lambda array: array[:-1], everywhere),
    "a row more": (
        lambda array: np.concatenate((array, array[-1:])),
        lambda name, array: name != "tag_names_offsets",  # a tag of no song does no harm
    ),
    "no rows": (lambda array: array[:0], everywhere),
    "a dimension more": (lambda array: array[None], everywhere),
    "one number": (lambda array: np.array(array.flat[0]), everywhere),
    "columns for rows": (np.asfortranarray, lambda name, array: array.ndim == 2),
    "a number that is none": (one_changed(np.nan), in_floats),
    "an infinite number": (one_changed(np.inf), in_floats),
    "a number below the range": (one_changed(-(2**14)), in_numbers_with_a_range),
    "a number above the range": (one_changed(2**14), in_numbers_with_a_range),
    "bytes that are no text": (one_changed(0xFF), lambda name, array: name.endswith("_data")),
    "backwards": (
        lambda array: array[::-1],
        lambda name, array: name.endswith("offsets") or name == "play_counts",
    ),
}


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is wrong with a golden artifact.

    Attributes:
        name: What.
        release: Which artifact.
        blamed: The file that the error is to name; the folder, if the file is as it should be.
        damage: Makes it so, given the version's folder.
    """

    name: str
    release: str
    blamed: str
    damage: Callable[[Path], object]


UNREAD = {"by_id"}
"""What only the first format had; a checksum is all that is asked of it."""


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the manifest says."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


def forge(folder: Path, name: str, data: bytes, **told: Any) -> None:
    """Replace an array's file, and let the manifest attest it."""
    (folder / f"{name}.npy").write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest()} | told
    edit(folder, lambda manifest: manifest["arrays"][name].update(entry))


def forging(name: str, data: bytes, **told: Any) -> Callable[[Path], None]:
    return lambda folder: forge(folder, name, data, **told)


def forging_manifest(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / MANIFEST).write_bytes(data)


def to_file(file: str, damage: FileDamage) -> Callable[[Path], object]:
    return lambda folder: damage(folder / file)


def cases_of_an_array(release: str, name: str, array: Array) -> Iterator[Case]:
    file = f"{name}.npy"
    for what, damage in (TO_EVERY_FILE | TO_EVERY_ARRAY).items():
        yield Case(f"{file} is {what}", release, file, to_file(file, damage))
    for what, (change, applies) in FORGED_ARRAYS.items():
        if applies(name, array) and name not in UNREAD:
            changed = change(array)
            told = {"dtype": changed.dtype.str, "shape": changed.shape}
            blamed = file if what == "columns for rows" else "."
            damage = forging(name, npy(changed), **told)
            yield Case(f"{name} attested with {what}", release, blamed, damage)


def cases_of_a_type(release: str, name: str, array: Array) -> Iterator[Case]:
    for what, damage in TO_SOME_FILES.items():
        yield Case(f"{name}.npy is {what}", release, f"{name}.npy", to_file(f"{name}.npy", damage))
    for what, made in FORGED_FILES.items():
        yield Case(f"{name} forged as {what}", release, f"{name}.npy", forging(name, made(array)))


def updated(*place: str, **fields: Any) -> Callable[[Path], None]:
    """Sets fields somewhere in the manifest."""

    def update(folder: Path) -> None:
        edit(folder, lambda manifest: within(manifest, place).update(fields))

    return update


def removed(name: str, *place: str) -> Callable[[Path], None]:
    """Removes a field somewhere in the manifest."""

    def remove(folder: Path) -> None:
        edit(folder, lambda manifest: within(manifest, place).pop(name))

    return remove


def within(manifest: dict[str, Any], place: Iterable[str]) -> dict[str, Any]:
    for name in place:
        manifest = manifest[name]
    return manifest


REQUIRED = ("format_version", "version", "trained_at", "hyperparameters", "statistics", "arrays")
NO_MANIFESTS = ("", "{", "[]", "null", '"text"', "{}", "\0", "NaN", "[" * 10**5, '{"a":' * 10**5)
NO_FORMATS = (0, 1000, -1, "1", None, 1.5)
NO_NAMES = ("../vectors", "/etc/passwd", "", ".", "Vectors", "a b", "a\n", "a/b", "vectors.npy")
NO_ENTRIES: dict[str, tuple[Any, ...]] = {
    "shape": (None, 3, "3", [-1], [2**70], [1.5], ["x"], [[3]], {}, [0] * 100),
    "dtype": (None, 4, "", "|O", "zz", "<f8", "f4"),
    "sha256": (None, 0, "", "0" * 64),
}


def told_of_a_manifest(manifest: dict[str, Any]) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What may be wrong with the manifest itself."""
    for text in NO_MANIFESTS:
        yield f"{text[:9]!r}", forging_manifest(text.encode())
    yield "not UTF-8", forging_manifest(b'{"version": "\xff"}')
    for field in REQUIRED:
        yield f"without {field}", removed(field)
    for field in manifest:
        yield f"a list for {field}", updated(**{field: [[]]})
    for number in NO_FORMATS:
        yield f"format {number}", updated(format_version=number)
    for name in NO_NAMES:
        entry = manifest["arrays"]["tags"]
        yield f"an array called {name!r}", updated("arrays", **{name: entry})
    yield "many dimensions", updated("hyperparameters", vector_size="many")
    yield "another version", updated(version="another")


def told_of_arrays(manifest: dict[str, Any]) -> Iterator[tuple[str, str, Callable[[Path], object]]]:
    """What may be wrong with what the manifest says of arrays, and what the error is to name."""
    for field, values in NO_ENTRIES.items():
        for value in values:
            damage = updated("arrays", "vectors", **{field: value})
            yield f"{field} {value} of vectors", "vectors.npy", damage
    for name in sorted(manifest["arrays"].keys() - UNREAD):
        yield f"without {name}", ".", removed(name, "arrays")
    for size in (-1, 0, 5, 2**70):
        yield f"{size} dimensions", ".", updated("hyperparameters", vector_size=size)


def cases_of_a_manifest(release: str, manifest: dict[str, Any]) -> Iterator[Case]:
    for what, damage in (TO_EVERY_FILE | TO_SOME_FILES).items():
        yield Case(f"manifest is {what}", release, MANIFEST, to_file(MANIFEST, damage))
    for what, damage in told_of_a_manifest(manifest):
        yield Case(f"manifest: {what}", release, MANIFEST, damage)
    for what, blamed, damage in told_of_arrays(manifest):
        yield Case(f"manifest: {what}", release, blamed, damage)


def manifest_of(release: str) -> Path:
    (manifest,) = GOLDEN.glob(f"{release}/models/*/{MANIFEST}")
    return manifest


def cases() -> Iterator[Case]:
    types: set[str] = set()
    for folder in sorted(GOLDEN.glob("*/")):
        file = manifest_of(folder.name)
        manifest = json.loads(file.read_text("utf-8"))
        yield from cases_of_a_manifest(folder.name, manifest)
        for name in manifest["arrays"]:
            array = np.load(file.with_name(f"{name}.npy"))
            yield from cases_of_an_array(folder.name, name, array)
            if array.dtype.str not in types:
                yield from cases_of_a_type(folder.name, name, array)
            types.add(array.dtype.str)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the golden artifacts, to be damaged and repaired."""
    return shutil.copytree(GOLDEN, tmp_path_factory.mktemp("copies") / "golden")


def repair(copy: Path, golden: Path) -> None:
    """Make a version's folder what it was."""
    for file in copy.iterdir():
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        elif file.is_symlink() or not file.is_file() or not same(file, golden / file.name):
            file.unlink()
    for file in golden.iterdir():
        if not (copy / file.name).exists():
            shutil.copyfile(file, copy / file.name)


def same(file: Path, other: Path) -> bool:
    return other.is_file() and file.read_bytes() == other.read_bytes()


@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy", "ignore::UserWarning:numpy")
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case.release}: {case.name}")
def test_what_is_wrong_is_told_and_not_loaded(case: Case, copies: Path) -> None:
    manifest = manifest_of(case.release)
    folder = copies / manifest.parent.relative_to(GOLDEN)
    case.damage(folder)
    try:
        with pytest.raises(ArtifactError) as caught:
            artifact.load(folder.parent)
    finally:
        repair(folder, manifest.parent)
    message = str(caught.value)
    assert caught.value.path in {folder / case.blamed, folder / MANIFEST}
    assert "train again" in message
    assert message.isprintable()
    assert len(message) < 1000
    if case.blamed == ".":
        names = json.loads(manifest.read_text("utf-8"))["arrays"]
        assert any(name.removesuffix("_data") in message for name in names)


def test_what_is_repaired_is_loaded(copies: Path) -> None:
    for folder in copies.glob("*/"):
        artifact.load(folder / "models")
