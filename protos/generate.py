"""Generate the Python code of the contract: `python protos/generate.py FOLDER`."""

import shutil
import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent


def generate(folder: Path) -> None:
    """Write code and type stubs of all of Segue's protos to a folder, which is emptied first.

    Raises:
        RuntimeError: the compiler refused a proto; it has printed why.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plugins = Path(sys.executable).parent
    files = sorted(str(file.relative_to(PROTOS)) for file in PROTOS.glob("segue/**/*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            f"--python_out={folder}",
            f"--mypy_out=quiet:{folder}",
            f"--grpc_python_out={folder}",
            f"--mypy_grpc_out=quiet:{folder}",
            *files,
        ]
    )
    if status:
        raise RuntimeError("protoc failed")
    for package in {file.parent for file in folder.glob("segue/**/*.py")} | {folder / "segue"}:
        for place in (package, *package.parents):
            if place == folder:
                break
            (place / "__init__.py").touch()


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
