"""Write `laplace_torch.npz`: last-layer posteriors of laplace-torch 0.3 on two small networks.

laplace-torch pulls packages that the tests do not need. In an environment of its own:

    pip install torch==2.13.0 laplace-torch==0.3
    python make_laplace_torch.py laplace_torch.npz

Both networks are trained until the gradient of their last layer is zero, without weight decay, so
that the posterior is centred at the trained weights.
"""

import sys

import numpy as np
import torch
from laplace import Laplace
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
HIDDEN, SCALE, SIGMA, SAMPLES = 6, 0.7, 0.3, 1_000_000


def trained(outputs: int, loss: torch.nn.Module, X: torch.Tensor, y: torch.Tensor):
    """Return a network whose last layer is at the minimum of the loss."""
    net = torch.nn.Sequential(
        torch.nn.Linear(X.shape[1], HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, outputs)
    )
    for parameters, steps in ((net.parameters(), 3), (net[2].parameters(), 2000)):
        optimiser = torch.optim.LBFGS(
            parameters,
            max_iter=steps,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )

        def closure(optimiser=optimiser) -> torch.Tensor:
            optimiser.zero_grad()
            value = loss(net(X), y)
            value.backward()
            return value

        optimiser.step(closure)
    print("gradient", float(net[2].weight.grad.abs().max()))
    return net


def main(path: str) -> None:
    """Train, ask laplace-torch, and write."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    X, new = rng.normal(size=(400, 2)), rng.normal(size=(25, 2))
    scores = np.stack([X[:, 0], X[:, 1], -X.sum(1)], 1) + rng.gumbel(size=(400, 3))
    numbers = np.sin(X[:, 0]) + X[:, 1] + SIGMA * rng.normal(size=400)
    out = {"X": X, "new": new, "scale": SCALE, "sigma": SIGMA}
    inputs, asked = torch.tensor(X), torch.tensor(new)
    for kind, outputs, target in (
        ("classification", 3, torch.tensor(scores.argmax(1))),
        ("regression", 1, torch.tensor(numbers)[:, None]),
    ):
        loss = torch.nn.CrossEntropyLoss() if outputs > 1 else torch.nn.MSELoss()
        net = trained(outputs, loss, inputs, target)
        settings = {"sigma_noise": SIGMA} if outputs == 1 else {}
        found = Laplace(net, kind, "last_layer", "full", prior_precision=1 / SCALE**2, **settings)
        found.fit(DataLoader(TensorDataset(inputs, target), batch_size=50))
        mean, variance = found._glm_predictive_distribution(asked)
        out |= {f"{kind}/y": target.numpy().ravel()}
        out |= {f"{kind}/net/{k}": v.detach().numpy() for k, v in net.state_dict().items()}
        out |= {
            f"{kind}/mean": mean.detach().numpy(),
            f"{kind}/variance": variance.detach().numpy(),
        }
        if outputs > 1:
            torch.manual_seed(1)
            probs = found(asked, pred_type="glm", link_approx="mc", n_samples=SAMPLES)
            out[f"{kind}/probs"] = probs.detach().numpy()
    np.savez_compressed(path, **out)


if __name__ == "__main__":
    main(sys.argv[1])
