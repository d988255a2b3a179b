"""The page of benchmarks, made from benchmarks/results/*.json.

    python -m benchmarks.page            # writes docs/benchmarks.md and the charts
    python -m benchmarks.page --check    # fails where the page is not in step with the results

Each section reads one file of results and names the command that makes it. In each row the better
number is bold, whoever it belongs to.
"""
