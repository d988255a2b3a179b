"""The runner of Markov chains, from the inside out.

- `layout.py` says where chains run: on how many devices, and side by side or in turn on each.
- `sampler.py` is the contract with one chain: `init`, `step`, `record` and `constrain` as
  functions of the chain's state.
- `settings.py` holds the settings of a run, which all engines share.
- `sharing.py` compiles functions of chains, and keeps the last ones for problems with the same
  shapes.
- `blocks.py` has these functions: starting chains, a block of draws, and the program's sites.
- `chains.py` runs the blocks, reports progress, writes checkpoints, and continues earlier runs.
"""
