"""Settings of a server process, typed, from flags and from the environment."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Settings = TypeVar("Settings", bound=BaseSettings)

Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """Settings that cannot be used; the message names the flag and the variable."""


class HomeSettings(BaseSettings):
    """Where Segue keeps files between runs."""

    model_config = SettingsConfigDict(env_prefix="SEGUE_", use_attribute_docstrings=True)

    home: Path = Path(platformdirs.user_data_dir("segue", appauthor=False))
    """Folder of trained song models, converted weights and downloaded data."""

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()


class ServerSettings(BaseSettings):
    """What every server can be told. Each process has a subclass with a prefix of its own."""

    model_config = SettingsConfigDict(
        use_attribute_docstrings=True, cli_kebab_case=True, cli_implicit_flags=True
    )

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: Port
    """Port to listen on; 0 picks a free one, which the log tells."""

    metrics_port: Port | None
    """Port of the Prometheus metrics; 0 picks a free one, `null` serves none."""

    processes: int = Field(default=1, ge=1, le=256)
    """Processes that serve the port side by side; they share what is mapped from disk."""

    threads: int | None = Field(default=None, ge=1)
    """Threads of BLAS and OpenMP in each process; as many as there are cores when `null`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log lines that are written."""

    max_message_bytes: int = Field(default=8 * 2**20, ge=1024, le=2**31 - 1)
    """Largest request or response."""

    max_concurrent_rpcs: int = Field(default=1000, ge=1)
    """RPCs served at a time; one more is refused with RESOURCE_EXHAUSTED."""

    keepalive_s: float = Field(default=60.0, gt=0)
    """Idle seconds after which a client's connection is probed; clients may probe as often."""

    shutdown_grace_s: float = Field(default=30.0, ge=0)
    """Seconds that running streams may take to finish after SIGTERM."""

    def environment(self) -> dict[str, str]:
        """What the server's libraries should find in the environment, unless it is set there."""
        return {}


def read_settings(settings: type[Settings], arguments: list[str], program: str) -> Settings:
    """Read settings from flags, then the environment, then defaults.

    Prints help and exits on `--help`.

    Raises:
        SettingsError: a setting that cannot be used, in one sentence.
    """
    try:
        return settings(_cli_parse_args=arguments, _cli_prog_name=program)
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        problems = [_problem(prefix, item["loc"], item["msg"]) for item in error.errors()]
        raise SettingsError("; ".join(problems)) from None


def _problem(prefix: str, location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(part) for part in location)
    flag = name.replace("_", "-")
    return f"--{flag} (or {prefix}{name.upper()}): {message[:1].lower()}{message[1:]}"
