"""A run with a checkpoint as a program of its own, for the tests that kill it.

    python tests/long_run.py ENGINE FOLDER OUT [LIMIT]     prints "start", the stage of each block
    of draws, and "end"
                                                           when the draws have been written to OUT

FOLDER "-" keeps no checkpoint. From the first block of sampling on no file can be written beyond
LIMIT bytes.
"""

import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import jax
import numpy as np
from toys import entries, product_program

import bayesdl as bdl
from inference.core.progress import AbstractProgress

ENGINES = {
    "nuts": bdl.NUTS(500, 1000, 2),
    "sghmc": bdl.SGHMC(1000, 1000, 2, thinning=20, control_variates=True),
    "mclmc": bdl.MCLMC(500, 2000, 2),
}


class Lines(AbstractProgress):
    """A line per block."""

    def __init__(self, limit):
        self.limit = limit

    def note(self, message):
        pass

    def start(self, total, label):
        pass

    def advance(self, steps, **facts):
        print(facts["stage"], flush=True)
        if self.limit and facts["stage"] == "sampling":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(self.limit), resource.RLIM_INFINITY))

    def close(self):
        pass


def main(engine, folder, out, limit=None):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    i, j, y = entries()
    kept = {} if folder == "-" else {"checkpoint": folder, "every": 40}
    print("start", flush=True)
    post = bdl.fit(
        product_program, i, j, y=y, engine=ENGINES[engine], progress=Lines(limit), **kept
    )
    np.savez(out, **post.raw.arrays())
    print("end", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
