"""Packages that only some commands need."""

from importlib.util import find_spec

_EVALUATION = ("implicit", "jinja2", "plotly", "threadpoolctl")


class MissingExtraError(Exception):
    """A command needs packages that are not installed; the message says how to install them."""


def require_evaluation() -> None:
    """Check that the packages of the extra `evaluation` are there, without importing them.

    Raises:
        MissingExtraError: one is not.
    """
    missing = [name for name in _EVALUATION if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"measuring needs {', '.join(missing)}; run: pip install 'segue[evaluation]'"
        )
