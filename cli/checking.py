"""Print what is wrong with a corpus and what it holds."""

from pathlib import Path

from rich.console import Console

from services.recommender.checking import Findings, check_corpus
from services.recommender.formats.problems import Kind


def check_data(path: Path, shown: int) -> bool:
    """Print the problems of a corpus by kind, then its size; gives whether it can be used."""
    findings = check_corpus(path, shown)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    for kind in Kind:
        if kind in findings.counts:
            _print_kind(console, findings, kind)
    if findings.statistics:
        held = findings.statistics
        console.print(
            f"{held.name}: {held.songs:,} songs, {held.playlists:,} playlists, {held.plays:,} plays"
        )
    return findings.sound


def _print_kind(console: Console, findings: Findings, kind: Kind) -> None:
    count, examples = findings.counts[kind], findings.examples[kind]
    label, style = ("error", "bold red") if kind.is_error else ("warning", "yellow")
    console.print(f"{label}: {kind} ({count:,})", style=style)
    for problem in examples:
        console.print(f"  {problem}")
    if count > len(examples):
        console.print(f"  and {count - len(examples):,} more")
