"""Prior-data fitted networks: a transformer learns a model's predictive distribution once, and then answers at once.

Data sets are drawn from the model's own prior; a network that predicts their held-out targets well, on average, has learned
p(y | x, data) (Mueller et al. 2022, arXiv:2112.10510). `PFN` is the trained network: an engine like any other.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.certificate import doubts, in_a_line, table
from bayesdl.amortized.requirements import same_program
from bayesdl.amortized.training import Plan, trained
from bayesdl.data.validation import DataError, ModelError
from bayesdl.engines import UnsupportedError, as_engine
from bayesdl.model.base import AbstractModel
from bayesdl.model.program import as_model
from bayesdl.model.table import TableProgram
from bayesdl.saving.archive import hash_arrays
from bayesdl.typing import EngineLike
from inference.amortized.answer import Answer, Context, LatentAnswer, condition
from inference.amortized.network import AbstractNetwork
from inference.amortized.result import AmortizedPredictor
from inference.amortized.tasks import TARGET, Tasks
from inference.core.engine import AbstractEngine
from inference.core.findings import Finding
from inference.core.problem import Problem, ProblemError
from inference.core.program import unwrap
from inference.core.progress import AbstractProgress, Silent, as_progress
from inference.core.result import AbstractPredictive, AbstractResult
from inference.distributions.bars import Grids

SMALLEST = 8  # rows of a padded data set, at least
LARGEST = 8  # times as many rows as in training are refused
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PFN(AbstractEngine):
    """A network trained to answer for one model: an engine whose `fit` is one forward pass. Make one with `PFN.train`.

    Attributes:
        model: that it was trained on.
        tasks: the data sets that it was trained on.
        network: the trained weights.
        grids: of the bars of y and of latent sites.
        facts: of training, as plain data.
        certificate: what it is worth, as plain data; `print(pfn)` shows it as a table: at each number of rows the mean of
            -log q in the units of the model (nll), nats lost to the exact predictive where that is known (gap), the p-value
            of calibration (p), and how many targets central intervals hold.

    Joint samples of predictions, `post.predict(X).sample()`, read each row again: of at most 256 rows.

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
    facts: dict[str, Any]
    certificate: dict[str, Any]

    @classmethod
    def train(
        cls,
        model: Any,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        gap: float | None = None,
        num_inputs: int | tuple[int, ...] = 1,
        max_rows: int = 30,
        num_classes: int = 2,
        inputs: Any = "normal",
        bars: int = 1000,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 128,
        frequencies: int = 4,
        normalize: bool = False,
        tokens: str = "rows",
        batch_size: int = 32,
        num_queries: int = 10,
        learning_rate: float = 1e-3,
        precision: str = "float32",
        devices: int = 1,
        latents: str | tuple[str, ...] = (),
        start: PFN | None = None,
        checkpoint: str | Path | None = None,
        seed: int = 0,
        progress: Any = True,
    ) -> PFN:
        """Trains a network on data sets drawn from a model's prior.

        Args:
            model: `bdl.BNN`, `bdl.GP`, `bdl.RandomBNN`, a `bdl.PriorMixture`, or a NumPyro function of (X, y=None) whose
                observed site is "y".
            steps: of the optimiser; 10,000 where neither they nor `seconds` are given.
            seconds: of training, which say how many steps it takes; on another day they may be more or fewer.
            gap: in nats; training ends early where the mean gap to the exact predictive falls below it. For models that have
                one: Gaussian processes with fixed hyperparameters.
            num_inputs: columns of X; `bdl.RandomBNN` and some Gaussian processes may take a range (fewest, most).
            max_rows: most rows of data.
            num_classes: where the likelihood is `bdl.Categorical()`; `bdl.RandomBNN(fewer_classes=True)` means at most.
            inputs: how rows of X are distributed: "normal" (as standardised columns are), "uniform" on the unit cube,
                "tabular" (clusters, correlated and skewed columns, as in real tables), or a function (key, shape) -> X.
            bars: of the predictive density of a number.
            width: of a token.
            layers: attention layers.
            heads: attention heads.
            hidden: units of the MLP in a layer.
            frequencies: of the sines and cosines of each input.
            normalize: whether each data set's targets are read in units of its own mean and spread: for priors whose scale of y
                differs from data set to data set.
            tokens: "rows"; or "cells", where rows attend to one another column by column, so that the order of the columns does
                not matter and what is learned of one holds for all. With p columns it costs 2 (1 + p) times as much.
            batch_size: data sets per step.
            num_queries: rows predicted in each of them.
            learning_rate: the highest.
            precision: "float32", or "bfloat16" for the network's arithmetic (weights and losses stay in single precision).
            devices: over which the data sets of a step are spread.
            latents: sites of the program, each one number, whose posteriors are learned too; see `bdl.amortized.latent`.
            start: a PFN of the same sizes whose weights training begins with, e.g. one that was trained on fewer rows.
            checkpoint: a folder that keeps the training: killed at any moment, the same call goes on where it was and ends
                with the same weights.
            seed: of weights and data sets.
            progress: whether to show a bar.

        Raises:
            ModelError: for a model that cannot be drawn from before data are known, or settings that make no sense.
            CheckpointError: where the checkpoint is of another training or cannot be written.
        """
        given = {
            name: value
            for name, value in locals().items()
            if name not in ("cls", "model", "start", "progress")
        }
        shown = as_progress(progress)
        given["latents"] = (latents,) if isinstance(latents, str) else latents
        plan = Plan.of(as_model(model), given)
        pfn = cls(plan.spec, plan.tasks, *trained(plan, start, gap, checkpoint, shown))
        shown.note(repr(pfn))
        return pfn

    @classmethod
    def pretrained(cls, name: str) -> PFN:
        """A network that ships with bayesdl, its certificate with it; no connection is needed.

        "gp-regression": a Gaussian process with a Matern-5/2 kernel whose hyperparameters are unknown, 1 to 8 columns.
        "tabular-classification": networks of unknown architecture, 1 to 30 columns, 2 to 10 classes. On small real tables
        logistic regression and random forests predict better (`benchmarks/results/tabular.json`).

        Raises:
            ValueError: for another name.
        """
        if not (PRETRAINED / f"{name}.pfn").exists():
            known = ", ".join(repr(path.stem) for path in sorted(PRETRAINED.glob("*.pfn")))
            raise ValueError(f"PFN.pretrained({name!r}): expected {known}.")
        return cls.load(PRETRAINED / f"{name}.pfn")

    def supports(self, problem: Problem) -> str | None:
        program = unwrap(problem.program)
        observes_y = isinstance(program, TableProgram) or problem.observed == (
            TARGET,
        )  # that of a table does without a look
        if not same_program(program, self.tasks.program) or not observes_y:
            classes, most = getattr(program, "num_targets", 0), self.network.shape.num_classes
            if most and isinstance(program, TableProgram) and program.model == self.model:
                return f"the data have {classes} classes, and it was trained for {most}"
            return "it was trained on another model, or another prior of it; fit pfn.model, or train one with bdl.PFN.train"
        first, *others = (
            name
            for name, value in arguments(problem).items()
            if value is not None and name != TARGET
        )
        if others:
            return f"it was trained on functions of {first} and y alone, and argument '{others[0]}' is given"
        X, _ = inputs_and_targets(problem)
        low, high = self.tasks.num_inputs
        if not low <= X.shape[1] <= high:
            span = str(high) if low == high else f"{low} to {high}"
            return f"X has {X.shape[1]} columns, and it was trained for {span}"
        if len(X) > LARGEST * self.tasks.max_rows:
            most = self.tasks.max_rows
            return f"X has {len(X)} rows, and more than {LARGEST} times the {most} that it was trained for are refused"
        return None

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> AmortizedPredictor:
        X, y = inputs_and_targets(problem)
        outside = self.concerns(X, y)
        for concern in outside:
            warnings.warn(
                f"The data are outside what this PFN was trained for: {concern}.", stacklevel=4
            )
        context = self.read(X, y)
        cache = condition(self.network, context)
        columns = self.tasks.num_inputs[1] - X.shape[1]
        law = Answer(
            self.network,
            context,
            cache,
            self.grids.target,
            columns,
            self.outputs(problem),
            self.tasks.max_rows,
        )
        latents: dict[str, AbstractPredictive] = {}
        if self.grids.latents is not None:
            of_site = functools.partial(LatentAnswer, self.network, cache, self.grids.latents)
            latents = {name: of_site(number) for number, name in enumerate(self.tasks.latents)}
        info = {
            "outside": outside,
            "doubts": doubts(self.certificate),
            "answer": f"that of a PFN {self.line}",
            "network": self.hash,
        }
        return AmortizedPredictor(
            {},
            law,
            info,
            concerns=functools.partial(self.new_inputs_outside, X.shape[1]),
            latents=latents,
        )

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        outside = (
            Finding(f"The data are outside what the engine can answer: {what}")
            for what in result.info.get("outside", ())
        )
        doubts = map(Finding, result.info.get("doubts", ()))
        return (
            *outside,
            *doubts,
            Finding(f"The answer is {result.info['answer']}", severity="note"),
        )

    def read(self, X: np.ndarray, y: np.ndarray) -> Context:
        """Data as the network reads them: the rows filled up to a power of two, so that each is compiled once."""
        rows = max(SMALLEST, 1 << (len(X) - 1).bit_length())
        wide = np.zeros((rows, self.tasks.num_inputs[1]), np.float32)
        wide[: len(X), : X.shape[1]] = X
        long = np.zeros(rows, np.float32 if self.grids.target else np.int32)
        long[: len(X)] = y
        return Context(jnp.asarray(wide), jnp.asarray(long), jnp.asarray(len(X)))

    def outputs(self, problem: Problem) -> int:
        """Of the network that count: all bars, or the classes of these data."""
        return (
            self.network.shape.num_outputs
            if self.grids.target
            else unwrap(problem.program).num_targets
        )

    def restore(self, problem: Problem, arrays: dict, info: dict) -> AbstractResult:
        reason = self.supports(problem)
        if reason or info["network"] != self.hash:
            raise ProblemError(
                f"It was fitted with another PFN than the one given{f': {reason}' if reason else ''}."
            )
        return self.infer(problem, key=jax.random.key(0))

    def concerns(self, X: np.ndarray, y: np.ndarray) -> list[str]:
        """What of these data lies outside those of training."""
        found = []
        if len(X) > self.tasks.max_rows:
            found.append(f"{len(X)} rows, trained for at most {self.tasks.max_rows}")
        found += self.inputs_outside(X)
        if self.grids.target and len(y):
            left, right = self.target_range
            if y.min() < left or y.max() > right:
                found.append(
                    f"targets from {y.min():.3g} to {y.max():.3g}, trained for {left:.3g} to {right:.3g}"
                )
        return found

    @property
    def target_range(self) -> tuple[float, float]:
        """Between which targets were in training."""
        if self.network.shape.unit is not None:
            low, high = self.certificate["targets"]
            return low, high
        edges, scales = map(np.asarray, self.grids.target)  # pyright: ignore[reportArgumentType]
        return float(edges[0] - 4 * scales[0]), float(edges[-1] + 4 * scales[1])

    def new_inputs_outside(self, columns: int, *args: Any, **named: Any) -> list[str]:
        """The same of the arguments of a prediction.

        Raises:
            DataError: where they are no table of numbers with so many columns.
        """
        X = np.asarray((*args, *named.values())[0])
        if X.ndim != 2 or X.shape[1] != columns:
            raise DataError(
                f"New X has shape {X.shape}, expected (rows, {columns}) as in the data fitted."
            )
        if not np.isfinite(X).all():
            raise DataError(
                "New X has values that are not finite: PFN expects numbers only; leave such rows out."
            )
        return self.inputs_outside(X)

    def inputs_outside(self, X: np.ndarray) -> list[str]:
        """The same of inputs alone."""
        low, high = self.certificate["inputs"]
        if not len(X) or (X.min() >= low and X.max() <= high):
            return []
        return [f"inputs from {X.min():.3g} to {X.max():.3g}, trained for {low:.3g} to {high:.3g}"]

    @functools.cached_property
    def hash(self) -> str:
        """Of the network's weights and sizes, and the bars; the order of fields does not matter."""
        parts = sorted(
            (jax.tree_util.keystr(path), leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path((self.network, self.grids))
        )
        sizes = np.frombuffer(
            json.dumps(dataclasses.asdict(self.network.shape), sort_keys=True).encode(), np.uint8
        )
        return hash_arrays([sizes, *(np.asarray(leaf) for _, leaf in parts)])

    @property
    def line(self) -> str:
        """The certificate in a line."""
        return f"after {self.facts['data_sets']} data sets: {in_a_line(self.certificate, not self.only_amortized)}"

    @property
    def only_amortized(self) -> bool:
        """Whether no other engine can answer for the model, as which kind of function it is is unknown too."""
        return self.model.no_other_engine

    def certify(
        self,
        engine: EngineLike,
        num_tasks: int = 32,
        num_rows: int | None = None,
        progress: Any = True,
    ) -> PFN:
        """The same PFN with its gap to another engine in the certificate: how much worse it predicts, in nats.

        Args:
            engine: that answers for the same model, e.g. `bdl.NUTS(num_chains=1)`.
            num_tasks: data sets of the prior, each fitted by it.
            num_rows: of each; by default half of the most that the PFN was trained for.
            progress: whether to show a bar.

        Raises:
            UnsupportedError: where the engine cannot run the model.
            ModelError: for numbers of tasks or rows that make no sense.
        """
        from bayesdl.amortized.comparison import compared

        num_rows = max(1, self.tasks.max_rows // 2) if num_rows is None else num_rows
        if not (num_tasks > 0 and 0 < num_rows <= self.tasks.max_rows):
            raise ModelError(
                f"certify(num_tasks={num_tasks}, num_rows={num_rows}): expected at least 1 task, and 1 to "
                f"{self.tasks.max_rows} rows, for which it was trained."
            )
        if self.only_amortized:
            raise UnsupportedError(
                f"No other engine can answer for {type(self.model).__name__}, whose draws differ in kind: its certificate has "
                "no gap. Calibration and held-out scores are what can be known."
            )
        found = compared(self, as_engine(engine), num_tasks, num_rows, progress)
        return dataclasses.replace(self, certificate=self.certificate | {"engine": found})

    def save(self, path: str | Path) -> Path:
        """Writes the network, its certificate and what it was trained on to one file; see `PFN.load`.

        Raises:
            BundleError: where the path cannot be written.
        """
        from bayesdl.amortized.saving import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | Path, model: Any = None) -> PFN:
        """Reads what `save` wrote; it gives the same numbers.

        Args:
            path: of the file.
            model: the NumPyro function, or the spec that holds code, that it was trained on: code is not stored.

        Raises:
            BundleError: for a file that is not one of these, or of another model.
        """
        from bayesdl.amortized.saving import load

        return load(path, model)

    def __repr__(self) -> str:
        return f"PFN({self.model.name}, {self.line})"

    def __str__(self) -> str:
        """The certificate as a table."""
        return f"{self!r}\n{table(self.certificate)}"


def arguments(problem: Problem) -> dict[str, Any]:
    """The arguments of a problem's program by name."""
    return dict(
        inspect.signature(unwrap(problem.program)).bind(*problem.args, **problem.kwargs).arguments
    )


def inputs_and_targets(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """X and y of a problem.

    Raises:
        DataError: where they are not a table and a target a row.
    """
    given = arguments(problem)
    X, y = np.asarray(next(iter(given.values()))), np.asarray(given.get(TARGET))
    if X.ndim != 2 or y.shape != (len(X),):
        raise DataError(
            f"X and y have shapes {X.shape} and {y.shape}: PFN expects (rows, columns) and (rows,)."
        )
    if not (np.isfinite(X).all() and np.isfinite(y).all()):
        raise DataError(
            "X or y has values that are not finite: PFN expects numbers only; leave such rows out."
        )
    return X, y
