"""The Student-t process: a Gaussian process whose overall scale is not known.

    s ~ p(s),    f | s ~ GP(0, s k),    y = f(x) + e,    e ~ N(0, s sigma^2)

With s ~ InverseGamma(a, b) the targets are multivariate t with 2a degrees of freedom (Shah, Wilson
and Ghahramani 2014, arXiv:1402.4306); any other prior takes quadrature over s, to eight digits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpyro.distributions as dist
from numpyro.distributions import constraints

from bayesdl import kernels
from bayesdl.data.validation import ModelError
from bayesdl.gp.process import AbstractProcess
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.likelihoods import Normal
from inference.exact.scale_mixture import AbstractScale, InverseGammaScale, QuadratureScale


@dataclasses.dataclass(frozen=True)
class StudentTProcess(AbstractProcess):
    """A Gaussian process with a factor s of all variances, which is integrated out.

    It is for few rows: intervals of a Gaussian process whose scale was learned or guessed from five
    rows are too narrow, and these are not. From some fifty rows on it predicts what `GP` predicts.
    It is **not** robust to outliers, which s cannot tell from a larger scale of all rows: for those
    take a likelihood with heavy tails, `bdl.GP(likelihood="student_t")`.

    Args:
        kernel: a kernel as for `GP`; its variance is that for s = 1.
        likelihood: `Normal()` with one scale, sigma, that of the noise for s = 1.
        scale: the prior of s, a NumPyro distribution of one positive number; None is
            `dist.InverseGamma(2.0, 2.0)`. With an inverse gamma everything is in closed form; any
            other prior, such as `dist.HalfCauchy(1.0)` or `dist.LogNormal(0.0, 1.0)`, takes
            quadrature. Where a is at most 1, or tails are as heavy, s has no mean before data, and
            nor have variances.
        standardize: whether inputs and targets are standardised with the training data's mean and
            standard deviation.

    Example:
        >>> StudentTProcess(kernels.RBF(1.0, 1.0), scale=dist.InverseGamma(3.0, 2.0)).kernel
        RBF(lengthscale=1.0, variance=1.0)
    """

    kernel: Any = kernels.RBF(ard=True)
    likelihood: Any = Normal()
    scale: Any = None
    standardize: bool = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("StudentTProcess", cls(), rows()),)

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        help_text = "a Gaussian process whose scale is not known"
        return (CommandLine("student-t", cls, help_text, {"kernel": kernels}, only_normal=True),)

    def __post_init__(self) -> None:
        super().__post_init__()
        prior = self.scale
        if prior is not None and (
            not isinstance(prior, dist.Distribution)
            or prior.shape() != ()
            or prior.support not in (constraints.positive, constraints.nonnegative)
        ):
            raise ModelError(
                f"StudentTProcess(scale={prior!r}): expected a NumPyro distribution of one "
                "positive number, such as dist.InverseGamma(2.0, 2.0) or dist.HalfCauchy(1.0)."
            )

    @property
    def known_scale(self) -> AbstractScale:
        if self.scale is None:
            return InverseGammaScale(2.0, 2.0)
        if isinstance(self.scale, dist.InverseGamma):
            return InverseGammaScale(float(self.scale.concentration), float(self.scale.rate))
        return QuadratureScale(self.scale)
