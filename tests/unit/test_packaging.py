"""What each extra installs, by the metadata of what is installed here."""

import re
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirement: str) -> set[str]:
    """Names of all packages that a requirement brings along."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(requirement)]
    while todo:
        wanted = todo.pop()
        key = (normalized(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = requires(wanted.name) or []
        except PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            extras = wanted.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                todo.append(need)
    return {name for name, _ in seen}


@pytest.mark.parametrize(
    ("extra", "absent", "present"),
    [
        ("gateway", {"torch", "gensim", "transformers", "numpy"}, {"grpcio", "pydantic"}),
        ("recommender", {"torch", "transformers"}, {"grpcio", "gensim", "rapidfuzz"}),
        ("generator", {"gensim"}, {"grpcio", "torch", "transformers"}),
    ],
)
def test_an_extra_brings_what_its_server_needs_and_no_more(
    extra: str, absent: set[str], present: set[str]
) -> None:
    names = closure(f"segue[{extra}]")
    assert not names & absent
    assert names >= present
