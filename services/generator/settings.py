"""Settings of the generator's process."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from serving.settings import HomeSettings, Port, ServerSettings

_VLLM_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # the threads of gRPC do not survive a fork
}


def _default_cache() -> Path:
    return HomeSettings().home / "weights"


class GeneratorSettings(ServerSettings):
    """What the generator can be told, as `--flag` or `SEGUE_GENERATOR_FLAG`."""

    model_config = SettingsConfigDict(env_prefix="SEGUE_GENERATOR_")

    port: Port = 50052
    """Port to listen on; 0 picks a free one, which the log tells."""

    metrics_port: Port | None = 9052
    """Port of the Prometheus metrics; 0 picks a free one, `null` serves none."""

    model: str | None = None
    """Hub id, folder, GGUF file or `embedded`; Phi-3-mini with CUDA and `embedded` without, when
    not set."""

    device_map: str | None = None
    """Where the weights go, as `from_pretrained` takes it; the GPU, where there is one, when not
    set."""

    dtype: str = "auto"
    """Type of the weights: `float32`, `bfloat16` or another of torch, or `int8` for linear layers
    in eight bits on a CPU; `auto` is `int8` for the embedded model on a CPU, and else the type in
    which the weights are stored."""

    trust_remote_code: bool = False
    """Run code that comes with the model; only for models whose makers you trust."""

    cache: Path = Field(default_factory=_default_cache)
    """Folder for converted weights."""

    engine: Literal["torch", "reference", "vllm"] = "torch"
    """What runs the model: `torch` runs many texts at once; `reference` is `generate` of
    transformers, one text after the other; `vllm`, if it is installed, runs many texts at once, on
    several GPUs if need be, and embeds none."""

    max_running: int = Field(default=32, ge=1)
    """Texts that grow at the same time, where the engine and the memory allow it."""

    max_waiting: int = Field(default=16, ge=0)
    """Requests that may wait beside those; one more is refused with RESOURCE_EXHAUSTED."""

    max_step_tokens: int | None = Field(default=None, ge=1)
    """Tokens computed in one step of the engine; 128, or 2,048 on a GPU, when not set. Longer
    prompts are computed in parts, so that no text waits long for its next token. On a CPU, tokens
    far behind in a prompt count for several while other texts grow. As many tokens of texts to
    embed, and no more than 1,024, are computed at a time, where no single one has more. vLLM sets
    this itself."""

    kv_bytes: int | None = Field(default=None, ge=1)
    """Memory for keys and values, taken at the start; 1 GiB, or most of what a GPU has left, when
    not set."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that share each layer's work; with the engine `vllm` only."""

    pipeline_parallel_size: int = Field(default=1, ge=1)
    """Groups of GPUs that take the layers in turns; with the engine `vllm` only."""

    def environment(self) -> dict[str, str]:
        """What the engine's library should find in the environment."""
        return _VLLM_ENVIRONMENT if self.engine == "vllm" else {}
