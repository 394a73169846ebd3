"""Fixtures that every test may use."""

from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more of the machine than of what is tested.
hypothesis.settings.register_profile("segue", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.load_profile("segue")

# Suites that tests inherit; before any of them is imported.
pytest.register_assert_rewrite(
    "tests.unit.generator.engine_suite",
    "tests.unit.generator.embedding_suite",
    "tests.unit.generator.in_process_suite",
    "tests.unit.generator.logprobs_suite",
    "tests.unit.generator.near_suite",
    "tests.unit.generator.transformers_suite",
)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real test data beside the checkout; it is never part of the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real playlists and tokenizer in ../shared/data, which are not here")
    return folder
