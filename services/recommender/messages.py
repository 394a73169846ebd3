"""Songs, answers and models as the contract's messages."""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from segue.recommender.v1 import model_pb2, song_pb2
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender.live import Refusal
from services.recommender.model import SongModel
from services.recommender.ranking import Floats
from services.recommender.served import ServedModel


def song_message(model: SongModel, position: int) -> song_pb2.Song:
    """One song of a model."""
    song = model.catalogue[position]
    return song_pb2.Song(
        id=song.id,
        title=song.title,
        artist=song.artist,
        tags=song.tags,
        year=song.year,
        play_count=int(model.play_counts[position]),
        placed=position >= model.trained,
    )


def add_reasons(
    songs: Sequence[pb.ScoredSong],
    seed_ids: Sequence[str],
    contributions: Floats,
    from_playlists: Floats,
) -> None:
    """Tell of each song what each seed contributed to its score, the largest first."""
    for song, mine, played in zip(songs, contributions, from_playlists, strict=True):
        song.reasons.extend(
            pb.Reason(
                seed_song_id=seed_ids[seed],
                contribution=mine[seed],
                from_playlists=played[seed],
            )
            for seed in abs(mine).argsort(kind="stable")[::-1]
            if mine[seed] != 0.0
        )


def describe(served: ServedModel) -> model_pb2.Model:
    """All that a client may know of a model."""
    model = served.model
    settings, statistics, blend = model.hyperparameters, model.statistics, model.blend
    return model_pb2.Model(
        version=model.version,
        train_time=_timestamp(model.trained_at),
        corpus=model_pb2.CorpusStatistics(
            name=statistics.name,
            songs=statistics.songs,
            playlists=statistics.playlists,
            plays=statistics.plays,
        ),
        hyperparameters=model_pb2.Hyperparameters(
            vector_size=settings.vector_size,
            window=settings.window,
            min_count=settings.min_count,
            negative=settings.negative,
            epochs=settings.epochs,
            skip_gram=bool(settings.sg),
            ns_exponent=settings.ns_exponent,
            sample=settings.sample,
            seed=settings.seed,
        ),
        index_uri=served.index_uri,
        index_recall=served.index_recall,
        blend=model_pb2.Blend(
            recency=blend.recency,
            proximity=blend.proximity,
            backward=blend.backward,
            sharpness=blend.sharpness,
            vector_share=blend.vector_share,
        ),
        evaluation=_evaluation(model),
    )


def refused(refusal: Refusal) -> model_pb2.RefusedVersion:
    """A version that was to be served and was not."""
    return model_pb2.RefusedVersion(
        version=refusal.version, reason=refusal.reason, refuse_time=_timestamp(refusal.time)
    )


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _evaluation(model: SongModel) -> model_pb2.Evaluation | None:
    if model.evaluation is None:
        return None
    return model_pb2.Evaluation(
        targets=model.evaluation.targets,
        metrics=[
            model_pb2.Metrics(
                name=metrics.name,
                hit_rate=metrics.hit_rate,
                reciprocal_rank=metrics.reciprocal_rank,
                ndcg=metrics.ndcg,
                coverage=metrics.coverage,
            )
            for metrics in model.evaluation.metrics
        ],
    )
