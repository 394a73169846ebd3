"""Ask the gateway and print what it says while it says it."""

import time
from dataclasses import dataclass

import grpc
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from segue.gateway.v1 import gateway_service_pb2 as pb
from segue.gateway.v1 import gateway_service_pb2_grpc

TIMEOUT_S = 180.0


class AskError(Exception):
    """The gateway did not answer, or not wholly; the message says why, in a line."""


@dataclass(slots=True)
class Answer:
    """What came, and how many milliseconds after the question."""

    songs: int = 0
    tokens: int = 0
    first_songs_ms: int = 0
    first_token_ms: int = 0


def ask_gateway(query: str, gateway: str, limit: int) -> Answer:
    """Print songs after a song, then words about them.

    Raises:
        AskError: no song was found, or the text broke off.
    """
    seeds = [pb.NarrationSeed(query=query)]
    answer = Answer()
    begin = time.perf_counter()
    with grpc.insecure_channel(gateway) as channel:
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        request = pb.NarrateRequest(seeds=seeds, limit=limit)
        try:
            for event in stub.Narrate(request, timeout=TIMEOUT_S):
                _show(event, answer, round((time.perf_counter() - begin) * 1000))
        except grpc.RpcError as error:
            raise AskError(f"{error.code().name}: {error.details()}") from None
    return answer


def _show(event: pb.NarrateResponse, answer: Answer, ms: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if event.HasField("songs"):
        answer.first_songs_ms = ms
        answer.songs = len(event.songs.songs)
        console.print(_table(event.songs))
    elif event.HasField("text"):
        answer.first_token_ms = answer.first_token_ms or ms
        console.print(event.text.text, end="", markup=False)
    else:
        console.print()
        if event.finished.HasField("error"):
            raise AskError(f"the text broke off: {event.finished.error.message}")
        answer.tokens = event.finished.usage.generated_tokens


def _table(songs: pb.NarratedSongs) -> Table:
    seeds = ", ".join(f"{song.title} - {song.artist}" for song in songs.seeds)
    table = Table("score", "title", "artist", title=f"after {escape(seeds)}", title_justify="left")
    for scored in songs.songs:
        table.add_row(f"{scored.score:.3f}", escape(scored.song.title), escape(scored.song.artist))
    return table
