"""Recommendation with uncertainty: Mult-VAE, Mult-DAE and EASE on sparse data, and what their scores mean.

train, validation, test = ...                            # or bayesdl.recommend.strong_split(users, items, ratings)
model = bayesdl.recommend.MultVAE().fit(train, validation)
model.recommend(rows, k=20)                              # items, probabilities, intervals, expected hits
model.save("films.bdl")                                  # and later bayesdl.recommend.load("films.bdl")
"""

from bayesdl.recommend.autoencoder import MultDAE, MultVAE
from bayesdl.recommend.blend import Blend
from bayesdl.recommend.codes import UserPosterior
from bayesdl.recommend.ease import EASE
from bayesdl.recommend.evaluation import Evaluation, evaluate
from bayesdl.recommend.popularity import Popularity
from bayesdl.recommend.program import programs
from bayesdl.recommend.recommendations import Recommendations
from bayesdl.recommend.saved import load
from bayesdl.recommend.split import HeldOut, Split, strong_split
from bayesdl.recommend.training import Anneal, PerUser

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
