"""The parts `speed` and `memory` of `benchmarks.recommend`, with one thread in one process.

It prints one JSON object. The torch peers are the same Mult-VAE (tanh, L2-normalised input, dropout
on it, Adam), with a first layer that sums rows of its matrix (`embedding_bag`) or multiplies a
dense batch. JAX and torch run in turns, so that both meet the same load of the machine.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import numpy as np
import optax
import scipy.sparse

from bayesdl.recommend import MultVAE
from bayesdl.recommend.autoencoder.training import run_epoch
from bayesdl.recommend.evaluation.metrics import hide_seen, rank_items
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import stack_batches
from benchmarks.recommend import peak_gb, split

BATCH, EPOCHS = 500, 6
BETA = 0.1


class Ours:
    """Epochs of `MultVAE`."""

    def __init__(self, train: Any) -> None:
        self.train, self.model = train, MultVAE(progress=False)
        self.model.start_fit(train, None, None)
        self.objective = self.model.objective()
        params = self.objective.init(jax.random.key(0))
        self.carry = (params, optax.adam(1e-3).init(params))
        self.rng = np.random.default_rng(0)

    def epoch(self) -> None:
        users = self.train.shape[0]
        # Batches are equal, as `train` makes them.
        size = -(-users // -(-users // BATCH))
        batches = stack_batches(self.train, self.rng.permutation(users), size)
        betas = np.full(len(batches.present), BETA, np.float32)
        self.carry, loss = run_epoch(
            self.objective,
            1e-3,
            False,
            self.carry,
            self.carry[0],
            batches,
            betas,
            jax.random.key(0),
        )
        jax.block_until_ready(loss)


class Torch:
    """Epochs of a re-implementation in torch."""

    def __init__(self, train: Any, sparse: bool) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch, self.train, self.sparse = torch, train, sparse
        items = train.shape[1]
        self.first = torch.nn.Parameter(torch.empty(items, 600))
        torch.nn.init.xavier_uniform_(self.first)
        self.bias = torch.nn.Parameter(torch.zeros(600))
        self.code = torch.nn.Linear(600, 400)
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(200, 600), torch.nn.Tanh(), torch.nn.Linear(600, items)
        )
        parameters = [self.first, self.bias, *self.code.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3)
        self.rng = np.random.default_rng(0)

    def epoch(self) -> None:
        order = self.rng.permutation(self.train.shape[0])
        for first in range(0, len(order), BATCH):
            self.step(self.train[order[first : first + BATCH]])

    def step(self, x: Any) -> None:
        torch, F = self.torch, self.torch.nn.functional
        user = torch.from_numpy(np.repeat(np.arange(x.shape[0]), np.diff(x.indptr)))
        item, offsets = (
            torch.from_numpy(x.indices.astype(np.int64)),
            torch.from_numpy(x.indptr[:-1].astype(np.int64)),
        )
        counts = torch.from_numpy(np.diff(x.indptr).astype(np.float32))
        if self.sparse:
            value = F.dropout(1 / torch.sqrt(counts)[user], 0.5)
            h = F.embedding_bag(item, self.first, offsets, mode="sum", per_sample_weights=value)
        else:
            dense = torch.from_numpy(x.toarray())
            h = F.dropout(F.normalize(dense), 0.5) @ self.first
        mean, log_variance = self.code(torch.tanh(h + self.bias)).split(200, 1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        f = self.decoder(z)
        if self.sparse:
            chosen = torch.zeros(x.shape[0]).index_add(0, user, f[user, item])
            log_likelihood = chosen - counts * torch.logsumexp(f, 1)
        else:
            log_likelihood = (torch.log_softmax(f, 1) * dense).sum(1)
        kl = (log_variance.exp() + mean**2 - 1 - log_variance).sum(1) / 2
        self.optimizer.zero_grad()
        (BETA * kl - log_likelihood).mean().backward()
        self.optimizer.step()


def speed() -> dict[str, float]:
    train, _, test = split()
    train = scipy.sparse.csr_array(train).astype(np.float32)
    runs = {
        "bayesdl": Ours(train),
        "torch sparse": Torch(train, True),
        "torch dense": Torch(train, False),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(EPOCHS):
        for name, run in runs.items():
            started = time.process_time()
            run.epoch()
            times[name].append(time.process_time() - started)
    found = {
        f"{name}, cpu s an epoch": float(np.median(values[1:])) for name, values in times.items()
    }
    compiled = times["bayesdl"][0] - found["bayesdl, cpu s an epoch"]
    ours = found["bayesdl, cpu s an epoch"]
    ratios = {
        f"times {name}": ours / found[f"{name}, cpu s an epoch"]
        for name in ("torch sparse", "torch dense")
    }
    return (
        found
        | ratios
        | {
            "compile, cpu s": compiled,
            "users scored and ranked per cpu s": ranking(runs["bayesdl"], test),
        }
    )


def ranking(ours: Any, test: Any) -> float:
    """Return the number of users whose 100 best items are found in a CPU second."""
    ours.model.params_, ours.model.beta_ = ours.carry[0], BETA
    ours.model.temperature_ = 1.0
    rows = ours.model.rows(test.fold_in)

    def once() -> float:
        started = time.process_time()
        scores = hide_seen(ours.model.block_scores(rows, Refinement()), rows)
        jax.block_until_ready(rank_items(scores, 100))
        return time.process_time() - started

    return rows.shape[0] / min(once() for _ in range(6))


def memory() -> dict[str, float]:
    """Measure two epochs on users and items of the size of Gowalla; entries by popularity."""
    rng = np.random.default_rng(0)
    users, items, entries = 29_858, 40_981, 1_027_370
    popularity = 1 / np.arange(1, items + 1) ** 0.6
    item = rng.choice(items, entries, p=popularity / popularity.sum())
    X = scipy.sparse.csr_array(
        (np.ones(entries, np.float32), (rng.integers(0, users, entries), item)),
        shape=(users, items),
    )
    X.data[:] = 1
    before, started = peak_gb(), time.process_time()
    MultVAE(epochs=2, batch_size=500, beta=0.1, progress=False).fit(X)
    return {
        "entries": X.nnz,
        "peak GB": peak_gb(),
        "before the fit": before,
        "cpu s": time.process_time() - started,
    }


if __name__ == "__main__":
    print(json.dumps({"speed": speed, "memory": memory}[sys.argv[1]]()))
