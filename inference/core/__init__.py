"""The contract between models and engines, and what all engines share.

`problem.py` is what a model hands over: a NumPyro program with its data, and perhaps a structure
(`structure.py`) that special engines exploit. `program.py` transforms programs: whole plates,
minibatches, keys by name. `engine.py` is the interface of an algorithm, `result.py` that of what it
returns, and `findings.py` what it says against its own result. `keys.py`, `progress.py`,
`checkpoint.py`, `fingerprint.py` and `minimise.py` are tools of the engines; `typing.py` names the
types.

The shared code of `bayesdl` imports from this package, and not from the engines' own.
"""

from inference.process.threads import give_threads_their_own_handlers

# before any program is run
give_threads_their_own_handlers()
