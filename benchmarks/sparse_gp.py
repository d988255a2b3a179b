"""Sparse Gaussian processes for many rows: SparseGP against GPyTorch's SVGP on the same split.

Each fit runs in a process of its own, which tells its CPU seconds (compiling included) and its peak
memory. Scores are of held-out rows.

    python -m benchmarks.sparse_gp [kin8nm protein boston energy]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from benchmarks.report import run_parts

LARGE, SMALL = ("kin8nm", "protein"), ("boston", "energy")
THREADS = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


def fit(name: str, engine: str) -> dict[str, Any]:
    """Fit bdl.GP() to the first split of a data set with an engine, and score it."""
    import bayesdl as bdl
    from benchmarks import reference_data

    engines = {
        "SparseGP": bdl.SparseGP(),
        "ExactGP": bdl.ExactGP(),
        "GPyTorch SVGP": bdl.GPyTorchGP(method="svgp"),
    }
    data = reference_data.uci(name)
    X, y, test = data["X"], data["y"], data["test"][0]
    started = time.process_time()
    post = bdl.fit(bdl.GP(), X[~test], y[~test], engine=engines[engine], progress=False)
    seconds = time.process_time() - started
    return {
        "rows": int((~test).sum()),
        "log_density": float(post.predict(X[test]).log_prob(y[test]).mean()),
        "cpu_seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def compare(name: str) -> dict[str, Any]:
    """Return what each engine says of a data set."""
    rows = {}
    for engine in ("SparseGP", "GPyTorch SVGP" if name in LARGE else "ExactGP"):
        command = [sys.executable, "-m", "benchmarks.sparse_gp", "--one", name, engine]
        ran = subprocess.run(
            command, env=os.environ | THREADS, check=True, capture_output=True, text=True
        )
        rows[engine] = json.loads(ran.stdout.splitlines()[-1])
        print(name, engine, rows[engine], flush=True)
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(fit(*sys.argv[2:4])))
    else:
        run_parts("sparse_gp", (*LARGE, *SMALL), compare, __doc__)
