"""What takes too long to run before every commit, of parts that are not servers."""

from tests.unit.generator.conftest import (  # noqa: F401  # fixtures
    one_thread,
    tiny_llama,
    tiny_llama_int8,
    tiny_phi3,
    windowed_phi3,
)
