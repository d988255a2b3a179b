"""Import time of bayesdl as a ratio to that of NumPyro: CPU seconds of fresh interpreters,
alternating.

python -m benchmarks.import_time
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks.report import write

CODE = "import time; start = time.process_time(); import {name}; print(time.process_time() - start)"


def cpu_seconds(name: str) -> float:
    return float(
        subprocess.run(
            [sys.executable, "-c", CODE.format(name=name)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    pairs = [(cpu_seconds("bayesdl"), cpu_seconds("numpyro")) for _ in range(repeats)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"import bayesdl / import numpyro: {ratio:.3f} (median of {repeats}; the limit is 1.2)")
    write("import_time", {"cpu_s": pairs, "median_ratio": ratio})


if __name__ == "__main__":
    main()
