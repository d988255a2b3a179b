"""Recommendation with uncertainty: Mult-VAE, Mult-DAE and EASE on sparse data.

    train, validation, test = ...  # or bayesdl.recommend.strong_split(...)
    model = bayesdl.recommend.MultVAE().fit(train, validation)
    model.recommend(rows, k=20)  # items, probabilities, intervals, hits
    model.save("films.bdl")  # and later bayesdl.recommend.load(...)

How it is put together, from the inside out: `rows.py` says what data are accepted and makes batches
of flat padded entries. `hits.py` computes how many items of a list are among the next n.
`probabilities.py` turns draws of log weights into probabilities and fits the temperature.
`refinement.py` holds how users' posteriors are found, and `recommendations.py` is the answer.
`estimator.py` has settings, labels and the start of a fit, and `validation.py` the checks of
`recommend`. `base.py` is the class that all recommenders share, with blocks of users and rankings:
a subclass gives `fit`, `block_scores`, `block_posterior` and the arrays that a file holds.

The recommenders are in `models/` (popularity, EASE, blends) and `autoencoder/` (Mult-VAE and
Mult-DAE, and the same model as a NumPyro program with the encoder as guide, for NUTS and `VI`).
`evaluation/` is the protocol: splits, metrics, comparisons. `bundle.py` and `saving.py` write and
read files. The command line is `bayesdl/cli/recommend/`.
"""

from bayesdl.recommend.autoencoder.codes import UserPosterior
from bayesdl.recommend.autoencoder.program import programs
from bayesdl.recommend.autoencoder.spec import MultDAE, MultVAE
from bayesdl.recommend.autoencoder.training import Anneal, PerUser
from bayesdl.recommend.evaluation.comparison import Evaluation, evaluate
from bayesdl.recommend.evaluation.split import HeldOut, Split, strong_split
from bayesdl.recommend.models.blend import Blend
from bayesdl.recommend.models.ease import EASE
from bayesdl.recommend.models.popularity import Popularity
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
