"""Fixtures that every test may use."""

from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more of the machine than of what is tested.
hypothesis.settings.register_profile("segue", deadline=None)
hypothesis.settings.load_profile("segue")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real test data beside the checkout; it is never part of the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real playlists and tokenizer in ../shared/data, which are not here")
    return folder
