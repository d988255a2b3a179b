"""Import time of bayesdl as a ratio to that of NumPyro: CPU seconds of fresh interpreters,
alternating.

Names are imported when they are first used, so the names of a first fit are measured too.

python -m benchmarks.import_time
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks.report import write

CODE = "import time; start = time.process_time(); {line}; print(time.process_time() - start)"
NUMPYRO = "import numpyro"
OURS = {
    "import bayesdl": "import bayesdl",
    "with the names of a first fit": "import bayesdl as b; b.fit, b.BNN, b.NUTS",
}


def cpu_seconds(line: str) -> float:
    return float(
        subprocess.run(
            [sys.executable, "-c", CODE.format(line=line)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    found = {}
    for title, line in OURS.items():
        pairs = [(cpu_seconds(line), cpu_seconds(NUMPYRO)) for _ in range(repeats)]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"{title} / import numpyro: {ratio:.3f} (median of {repeats})")
        found[title] = {"cpu_s": pairs, "median_ratio": ratio}
    write("import_time", found)


if __name__ == "__main__":
    main()
