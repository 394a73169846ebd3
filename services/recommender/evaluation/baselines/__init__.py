"""What the song model is measured against: one contract, many methods."""

from services.recommender.evaluation.baselines.als import Als
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.evaluation.baselines.item_knn import ItemKnn
from services.recommender.evaluation.baselines.popularity import Popularity
from services.recommender.evaluation.baselines.rules import Association, Markov, SequentialRules
from services.recommender.evaluation.baselines.session_knn import SessionKnn
from services.recommender.evaluation.baselines.word2vec import Book

BASELINES: dict[str, type[Baseline]] = {
    "popularity": Popularity,
    "markov": Markov,
    "sequential_rules": SequentialRules,
    "association": Association,
    "item_knn": ItemKnn,
    "vsknn": SessionKnn,
    "als": Als,
    "book": Book,
}
"""By the name that reports give them."""
