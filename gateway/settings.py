"""Settings of the gateway's process."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from serving.settings import Port, ServerSettings


class GatewaySettings(ServerSettings):
    """What the gateway can be told, as `--flag` or `SEGUE_GATEWAY_FLAG`."""

    model_config = SettingsConfigDict(env_prefix="SEGUE_GATEWAY_")

    port: Port = 50050
    """Port to listen on; 0 picks a free one, which the log tells."""

    metrics_port: Port | None = 9050
    """Port of the Prometheus metrics; 0 picks a free one, `null` serves none."""

    recommender: str = "127.0.0.1:50051"
    """gRPC target of the recommender, such as `dns:///recommender:50051`."""

    generator: str = "127.0.0.1:50052"
    """gRPC target of the generator."""

    recommender_timeout_s: float = Field(default=5.0, gt=0)
    """Most seconds that the recommender may take, whatever the client's deadline."""

    generator_timeout_s: float = Field(default=120.0, gt=0)
    """Most seconds that a text may take, whatever the client's deadline."""
