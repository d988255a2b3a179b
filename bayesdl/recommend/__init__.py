"""Recommendation with uncertainty: Mult-VAE, Mult-DAE and EASE on sparse data, and what their scores mean.

train, validation, test = ...                            # or bayesdl.recommend.strong_split(users, items, ratings)
model = bayesdl.recommend.MultVAE().fit(train, validation)
model.recommend(rows, k=20)                              # items, probabilities, intervals, expected hits
model.save("films.bdl")                                  # and later bayesdl.recommend.load("films.bdl")
"""

from bayesdl.recommend.autoencoder.codes import UserPosterior
from bayesdl.recommend.autoencoder.program import programs
from bayesdl.recommend.autoencoder.spec import MultDAE, MultVAE
from bayesdl.recommend.autoencoder.training import Anneal, PerUser
from bayesdl.recommend.blend import Blend
from bayesdl.recommend.ease import EASE
from bayesdl.recommend.evaluation.comparison import Evaluation, evaluate
from bayesdl.recommend.evaluation.split import HeldOut, Split, strong_split
from bayesdl.recommend.popularity import Popularity
from bayesdl.recommend.recommendations import Recommendations
from bayesdl.recommend.saving import load

__all__ = [
    "EASE",
    "Anneal",
    "Blend",
    "Evaluation",
    "HeldOut",
    "MultDAE",
    "MultVAE",
    "PerUser",
    "Popularity",
    "Recommendations",
    "Split",
    "UserPosterior",
    "evaluate",
    "load",
    "programs",
    "strong_split",
]
