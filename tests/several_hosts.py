"""One process of a run on several hosts, for the test that starts two on this one.

python tests/several_hosts.py PORT NUMBER COUNT OUT
"""

import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={2 // int(sys.argv[3])}"  # two devices in all
)
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import jax
import numpy as np


def main(port, number, count, out):
    if count > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=number)
    from toys import entries, tensor_program

    import bayesdl as bdl

    assert jax.device_count() == 2
    i, j, y = entries()
    draws = {}
    for engine in (bdl.NUTS(30, 30, 2), bdl.SGHMC(100, 30, 2, 5)):
        post = bdl.fit(tensor_program, i, j, y=y, engine=engine, progress=False)
        draws |= {f"{type(engine).__name__}/{name}": value for name, value in post.samples.items()}
    np.savez(out, **draws)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
