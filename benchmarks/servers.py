"""Servers for the recommender's benchmark: `python -m benchmarks.servers NAME PORT MODELS`.

- `segue` serves as `segue serve recommender` does, but that `GetModel` does nothing: it is the
  echo, an RPC that goes through all that every RPC goes through, and answers with nothing.
- `gensim` is what a user would write in an afternoon: `most_similar` behind a gRPC server.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1 import recommender_service_pb2_grpc as pb_grpc
from segue.recommender.v1.song_pb2 import Song


def serve_segue(port: int, models: Path) -> None:
    """Serve the recommender with an echo until SIGTERM."""
    from services.recommender.service import RecommenderService
    from services.recommender.settings import RecommenderSettings
    from serving.server import run

    class WithEcho(RecommenderService):
        async def GetModel(self, request: Any, context: Any) -> pb.GetModelResponse:  # noqa: N802
            return pb.GetModelResponse()

    settings = RecommenderSettings(port=port, metrics_port=None, models=models)
    run(WithEcho(settings), settings)


def serve_gensim(port: int, models: Path) -> None:
    """Serve gensim's `most_similar` over the same vectors until SIGTERM."""
    import numpy as np
    from gensim.models import KeyedVectors

    from services.recommender import artifact
    from services.recommender.service import RecommenderService

    model = artifact.load(models)
    vectors = KeyedVectors(model.vectors.shape[1])
    ids = [model.catalogue.ids[position] for position in range(len(model))]
    vectors.add_vectors(ids, np.array(model.vectors))
    vectors.fill_norms()

    class OnlySimilar(RecommenderService):
        def __init__(self) -> None:
            pass

        async def RecommendSongs(self, request: Any, context: Any) -> Any:  # noqa: N802
            seeds = [seed.song_id for seed in request.seeds]
            nearest = vectors.most_similar(positive=seeds, topn=request.limit)
            return pb.RecommendSongsResponse(
                songs=[pb.ScoredSong(song=Song(id=key), score=score) for key, score in nearest]
            )

    async def serve() -> None:
        server = grpc.aio.server()
        pb_grpc.add_RecommenderServiceServicer_to_server(OnlySimilar(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    uvloop.install()
    asyncio.run(serve())


if __name__ == "__main__":
    {"segue": serve_segue, "gensim": serve_gensim}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
