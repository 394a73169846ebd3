"""Settings of the generator's process."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from serving.settings import HomeSettings, Port, ServerSettings


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
    """Type of the weights: `auto` for the one they are stored in, or a name such as `bfloat16`."""

    trust_remote_code: bool = False
    """Run code that comes with the model; only for models whose makers you trust."""

    cache: Path = Field(default_factory=_default_cache)
    """Folder for converted weights."""

    max_waiting: int = Field(default=16, ge=0)
    """Requests that may wait for the model; one more is refused with RESOURCE_EXHAUSTED."""
