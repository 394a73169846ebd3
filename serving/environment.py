"""What libraries read from the environment once, when they are imported; set before that."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from serving.settings import ServerSettings

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def prepared(settings: ServerSettings) -> Iterator[None]:
    """Bound the threads of BLAS and OpenMP, and give metrics of several processes a folder.

    What a server's other libraries want is set too, where it is not set already. Enter this before
    numpy or prometheus_client is imported; it ends with the server.
    """
    for name, value in settings.environment().items():
        os.environ.setdefault(name, value)
    if settings.threads is not None:
        os.environ.update(dict.fromkeys(_THREADS, str(settings.threads)))
    if settings.processes == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="segue-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        yield
