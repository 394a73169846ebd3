"""What the tests of indexes share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Build small indexes in one thread: several would spend their time waiting for each other."""
    try:
        import faiss
    except ModuleNotFoundError:
        return
    faiss.omp_set_num_threads(1)
