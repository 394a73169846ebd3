import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from services.generator import models
from services.generator.models import EMBEDDED, LoadedModel, ModelSourceError, load
from services.generator.tokenization import ChatMessage
from tests.tiny_models import save_tiny_llama, save_tiny_phi3

BANANAS = "Can you provide ways to eat combinations of bananas and dragonfruits?"


def test_a_phi3_chat_prompt_has_the_ids_of_the_published_model(tiny_phi3: LoadedModel) -> None:
    ids = tiny_phi3.tokenizer.encode_chat([ChatMessage("user", BANANAS)])
    assert ids == [
        *(32010, 1815, 366, 3867, 5837, 304, 17545, 18240, 310, 9892),
        *(16397, 322, 8338, 265, 29888, 21211, 29973, 32007, 32001),
    ]


def test_a_phi3_stops_at_each_of_its_three_ids(tiny_phi3: LoadedModel) -> None:
    assert tiny_phi3.stop_ids == {32000, 32001, 32007}


def test_a_folder_without_generation_config_stops_at_the_turns_end_all_the_same(
    tiny_phi3: LoadedModel, shared_data: Path, tmp_path: Path
) -> None:
    folder = save_tiny_phi3(tmp_path / "copy", shared_data / "phi3_mini_4k")
    (folder / "generation_config.json").unlink()
    assert load(str(folder), cache=tmp_path).stop_ids >= {32000, 32007}


def test_a_model_is_described(tiny_llama: LoadedModel) -> None:
    described = tiny_llama.description
    assert described.name == "tiny-llama"
    assert described.architecture == "LlamaForCausalLM"
    assert described.dtype == "float32"
    assert described.context_length == 256
    assert described.embedding_dimension == 64
    assert described.tokenizer.algorithm == "BPE"
    assert described.tokenizer.normalization == ""
    assert ("<|end|>", 1) in described.tokenizer.special_tokens
    assert described.parameters == sum(p.numel() for p in tiny_llama.model.parameters())


def test_a_model_without_its_weights_is_described_all_the_same(tiny_llama: LoadedModel) -> None:
    bare = load(tiny_llama.model.name_or_path, cache=Path(), weights=False)
    assert bare.description == tiny_llama.description
    assert bare.stop_ids == tiny_llama.stop_ids
    assert bare.model.device.type == "meta"


def test_normalization_is_described_step_by_step(tiny_phi3: LoadedModel) -> None:
    assert tiny_phi3.description.tokenizer.normalization == "Prepend, Replace"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("nothing may be asked of the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("./nowhere", "there is no such folder"),
        ("/nowhere/at/all", "there is no such folder"),
        ("one/too/many", "there is no such folder"),
        ("just-a-word", "there is no such folder"),
        ("nothing.gguf", "there is no such file"),
    ],
)
def test_a_source_that_is_not_there_is_told(source: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=told):
        load(source, cache=tmp_path)


def test_a_folder_that_holds_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"config\.json"):
        load(str(tmp_path), cache=tmp_path)


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def tiny_embedded(whole_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model that comes with a package be a tiny one."""
    monkeypatch.setattr(models, "_place", lambda *_: whole_model)


@pytest.mark.usefixtures("tiny_embedded")
def test_the_embedded_model_is_in_eight_bits(tmp_path: Path) -> None:
    assert load(EMBEDDED, cache=tmp_path).description.dtype == "int8"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"model_type": "nope"}', b"\xff" * 99])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_with_a_broken_file_is_told(
    whole_model: Path, file: str, content: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole_model, folder)
    (folder / file).write_bytes(content)
    with pytest.raises(ModelSourceError, match="cannot be loaded"):
        load(str(folder), cache=tmp_path)


@pytest.mark.usefixtures("no_network")
def test_a_folder_without_weights_is_told(whole_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelSourceError, match=r"cannot be loaded: .*model\.safetensors"):
        load(str(folder), cache=tmp_path)


def test_a_file_that_is_no_gguf_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    cache = tmp_path / "cache"
    with pytest.raises(ModelSourceError, match=r"broken\.gguf"):
        load(str(file), cache=cache)
    assert not list(cache.iterdir())
