"""Prior-data fitted networks: a transformer learns a model's predictive distribution once.

Data sets are drawn from the model's own prior. A network that predicts their held-out targets well,
on average, has learned p(y | x, data) (Mueller et al. 2022, arXiv:2112.10510), and answers for new
data in one forward pass. `PFN` is the trained network, an engine like any other.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from bayesdl.amortized.certificate import find_doubts, format_table, summarize
from bayesdl.amortized.comparison import compare_engine
from bayesdl.amortized.context import TrainingRange, inputs_and_targets, pad_data
from bayesdl.amortized.requirements import reason_unsupported
from bayesdl.amortized.saving import load_network, save_network
from bayesdl.amortized.settings import Training
from bayesdl.amortized.trained_network import TrainedNetwork
from bayesdl.amortized.training import Plan, train_network
from bayesdl.data.validation import ModelError
from bayesdl.engines import UnsupportedError
from bayesdl.model.base import AbstractModel
from bayesdl.model.program import as_model
from bayesdl.typing import EngineLike, Integer, ProgressLike
from bayesdl.warnings import deprecated
from inference.amortized.answer import (
    AmortizedPredictor,
    LatentPredictive,
    NetworkPredictive,
    condition,
)
from inference.amortized.network import AbstractNetwork
from inference.amortized.tasks import Tasks
from inference.core.engine import AbstractEngine
from inference.core.findings import Finding
from inference.core.problem import Problem, ProblemError
from inference.core.program import unwrap
from inference.core.progress import AbstractProgress, Silent, as_progress
from inference.core.result import AbstractPredictive, AbstractResult
from inference.core.typing import Info, Key, Program, StoredArrays
from inference.distributions.bars import Grids
from inference.process.cached import cached
from inference.renaming import warn_renamed

PRETRAINED = Path(__file__).parent / "pretrained"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PFN(AbstractEngine):
    """A network trained to answer for one model: an engine whose `fit` is one forward pass.

    Make one with `PFN.train(model, Training(...))`.

    Attributes:
        model: the model that the network was trained on.
        tasks: the data sets that it was trained on.
        network: the trained weights.
        grids: the grids of the bars of y and of latent sites.
        facts: facts about the training, as plain data.
        certificate: the quality of the network, as plain data. `print(pfn)` shows it as a table: at
            each number of rows the mean of -log q in the units of the model (nll), the nats lost to
            the exact predictive distribution if that is known (gap), the p-value of calibration
            (p), and the shares of targets in central intervals.

    Joint samples of predictions, `post.predict(X).sample()`, read each row again, so they are
    limited to 256 rows.

    Example:
        >>> import bayesdl as bdl
        >>> pfn = bdl.PFN.pretrained("gp-regression")
        >>> X = np.linspace(-1, 1, 9)[:, None]
        >>> post = bdl.fit(pfn.model, X, np.sin(3 * X[:, 0]), engine=pfn, progress=False)
        >>> post.predict(X).mean.shape, bool(bdl.amortized.latent(post, "sigma").mean < 0.5)
        ((9,), True)
    """

    model: AbstractModel
    tasks: Tasks
    network: AbstractNetwork
    grids: Grids
    facts: Info
    certificate: Info

    @classmethod
    def train(
        cls,
        model: AbstractModel | Program,
        training: Training | None = None,
        *,
        start: PFN | None = None,
        checkpoint: str | Path | None = None,
        progress: ProgressLike = True,
        **settings: object,
    ) -> PFN:
        """Train a network on data sets drawn from a model's prior.

        Args:
            model: `bdl.BNN`, `bdl.GP`, `bdl.RandomBNN`, a `bdl.PriorMixture`, or a NumPyro function
                of (X, y=None) whose observed site is "y".
            training: the settings of the training; None for the defaults.
            start: a PFN of the same sizes whose weights training begins with, e.g. one that was
                trained on fewer rows.
            checkpoint: a folder that keeps the training. If it is interrupted, the same call
                continues from there and ends with the same weights.
            progress: whether to show a progress bar.
            **settings: settings of the training, as earlier versions took them.

        Raises:
            TypeError: for settings given in both ways.
            ModelError: for a model that cannot be drawn from before data are known, or settings
                that make no sense.
            CheckpointError: if the checkpoint is of another training or cannot be written.
        """
        shown = as_progress(progress)
        if settings:
            if training is not None:
                raise TypeError(
                    f"PFN.train got training={training!r} and {sorted(settings)}: give all "
                    "settings in bdl.amortized.Training(...)."
                )
            warn_renamed("PFN.train(steps=...)", "PFN.train(model, bdl.amortized.Training(...))")
            training = Training(**settings)  # pyright: ignore[reportArgumentType]
        training = Training() if training is None else training
        plan = Plan.from_settings(as_model(model), training.by_name())
        first = None if start is None else start.trained
        pfn = cls.from_trained(train_network(plan, first, training.gap, checkpoint, shown))
        shown.note(repr(pfn))
        return pfn

    @classmethod
    def from_trained(cls, trained: TrainedNetwork) -> PFN:
        """Return the engine of a trained network."""
        return cls(*(getattr(trained, field.name) for field in dataclasses.fields(trained)))

    @cached
    def trained(self) -> TrainedNetwork:
        """The trained network with everything that is known of it."""
        return TrainedNetwork(
            self.model, self.tasks, self.network, self.grids, self.facts, self.certificate
        )

    @classmethod
    def pretrained(cls, name: str) -> PFN:
        """Return a network that ships with bayesdl, with its certificate; no connection is needed.

        "gp-regression" is a Gaussian process with a Matern-5/2 kernel whose hyperparameters are
        unknown, for 1 to 8 columns. "tabular-classification" is a prior over networks of unknown
        architecture, for 1 to 30 columns and 2 to 10 classes; on small real tables logistic
        regression and random forests predict better (`benchmarks/results/tabular.json`).

        Args:
            name: the name of the network.

        Raises:
            ValueError: for another name.
        """
        if not (PRETRAINED / f"{name}.pfn").exists():
            known = ", ".join(repr(path.stem) for path in sorted(PRETRAINED.glob("*.pfn")))
            raise ValueError(f"PFN.pretrained({name!r}): expected {known}.")
        return cls.load(PRETRAINED / f"{name}.pfn")

    def supports(self, problem: Problem) -> str | None:
        return reason_unsupported(self.trained, problem)

    def infer(
        self, problem: Problem, *, key: Key, progress: AbstractProgress = Silent()
    ) -> AmortizedPredictor:
        X, y = inputs_and_targets(problem)
        outside = self.training_range.concerns(X, y)
        for concern in outside:
            warnings.warn(
                f"The data are outside what this PFN was trained for: {concern}.", stacklevel=4
            )
        grid, sizes = self.grids.target, self.network.padded(*X.shape)
        context = pad_data(X, y, sizes, classes=grid is None)
        cache = condition(self.network, context)
        # Of a classifying network only the logits of the classes of these data count.
        bars = self.network.shape.num_outputs
        outputs = unwrap(problem.program).num_targets if grid is None else bars
        predictive = NetworkPredictive(
            self.network,
            context,
            cache,
            grid,
            sizes[1] - X.shape[1],
            outputs,
            self.tasks.max_rows,
        )
        latents: dict[str, AbstractPredictive] = {}
        if self.grids.latents is not None:
            of_site = functools.partial(LatentPredictive, self.network, cache, self.grids.latents)
            latents = {name: of_site(number) for number, name in enumerate(self.tasks.latents)}
        info = {
            "outside": outside,
            "doubts": find_doubts(self.certificate),
            "answer": f"that of a PFN {self.line}",
            "network": self.hash,
        }
        concerns = functools.partial(self.training_range.new_input_concerns, X.shape[1])
        return AmortizedPredictor({}, predictive, info, concerns=concerns, latents=latents)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        outside = (
            Finding(f"The data are outside what the engine can answer: {what}")
            for what in result.info.get("outside", ())
        )
        doubts = map(Finding, result.info.get("doubts", ()))
        answer = Finding(f"The answer is {result.info['answer']}", severity="note")
        return (*outside, *doubts, answer)

    def restore(self, problem: Problem, arrays: StoredArrays, info: Info) -> AbstractResult:
        reason = self.supports(problem)
        if reason or info["network"] != self.hash:
            raise ProblemError(
                "It was fitted with another PFN than the one given"
                f"{f': {reason}' if reason else ''}."
            )
        return self.infer(problem, key=jax.random.key(0))

    @cached
    def training_range(self) -> TrainingRange:
        """The range of the data that the network was trained on."""
        return TrainingRange.of_network(self.trained)

    @property
    def target_range(self) -> tuple[float, float] | None:
        """The least and the greatest target that the network was trained for; None for classes."""
        return self.training_range.targets

    @property
    def hash(self) -> str:
        """The SHA-256 of weights, sizes and grids."""
        return self.trained.hash

    @property
    def line(self) -> str:
        """The certificate in one line."""
        measurable = not self.model.no_other_engine
        return (
            f"after {self.facts['data_sets']} data sets: {summarize(self.certificate, measurable)}"
        )

    @property
    @deprecated("pfn.model.no_other_engine")
    def only_amortized(self) -> bool:
        """Whether no other engine can answer for the model."""
        return self.model.no_other_engine

    @deprecated("pfn.training_range.concerns")
    def concerns(self, X: np.ndarray, y: np.ndarray) -> list[str]:
        """See `TrainingRange.concerns`."""
        return self.training_range.concerns(X, y)

    @deprecated("pfn.training_range.input_concerns")
    def inputs_outside(self, X: np.ndarray) -> list[str]:
        """See `TrainingRange.input_concerns`."""
        return self.training_range.input_concerns(X)

    def certify(
        self,
        engine: EngineLike,
        num_tasks: Integer = 32,
        num_rows: Integer | None = None,
        progress: ProgressLike = True,
    ) -> PFN:
        """Return the same PFN with its gap to another engine in the certificate.

        The gap says how much worse the PFN predicts, in nats.

        Args:
            engine: an engine that answers for the same model, e.g. `bdl.NUTS(num_chains=1)`, its
                name, or "auto" for the one that suits the first data set.
            num_tasks: the number of data sets of the prior, each fitted with the engine.
            num_rows: the number of rows of each data set; by default half of the most that the PFN
                was trained for.
            progress: whether to show a progress bar.

        Raises:
            UnsupportedError: if the engine cannot run the model.
            ModelError: for numbers of tasks or rows that make no sense.
        """
        num_rows = max(1, self.tasks.max_rows // 2) if num_rows is None else num_rows
        if not (num_tasks > 0 and 0 < num_rows <= self.tasks.max_rows):
            raise ModelError(
                f"certify(num_tasks={num_tasks}, num_rows={num_rows}): expected at least 1 task, "
                f"and 1 to {self.tasks.max_rows} rows, for which it was trained."
            )
        if self.model.no_other_engine:
            raise UnsupportedError(
                f"No other engine can answer for {type(self.model).__name__}, whose draws differ "
                "in kind: its certificate has no gap. Calibration and held-out scores are what can "
                "be known."
            )
        found = compare_engine(self.trained, engine, num_tasks, num_rows, progress)
        return dataclasses.replace(self, certificate=self.certificate | {"engine": found})

    def save(self, path: str | Path, *, key: str | bytes | None = None) -> Path:
        """Write the network, its certificate and what it was trained on to one file.

        `PFN.load` reads it.

        Args:
            path: the path of the file.
            key: a secret to sign the file with, which `PFN.load(path, key=...)` then asks for.

        Raises:
            BundleError: if the path cannot be written.
        """
        return save_network(self.trained, path, key)

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: AbstractModel | Program | None = None,
        *,
        key: str | bytes | None = None,
    ) -> PFN:
        """Read what `save` wrote; it gives the same numbers.

        Args:
            path: the path of the file.
            model: the NumPyro function, or the spec that holds code, that the network was trained
                on; it is needed as code is not stored.
            key: the secret that the file must be signed with; None takes any file.

        Raises:
            BundleError: for a file that is not one of these, or of another model.
        """
        return cls.from_trained(load_network(path, model, key))

    def __repr__(self) -> str:
        return f"PFN({self.model.name}, {self.line})"

    def __str__(self) -> str:
        """Return the certificate as a table."""
        return f"{self!r}\n{format_table(self.certificate)}"
