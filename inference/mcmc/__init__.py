"""Markov chain Monte Carlo.

- `runner/` runs the chains of any sampler: `layout.py` says where, `sampler.py` is the contract
  with one chain, `chains.py` makes the draws in compiled blocks.
- `starts.py` finds the positions at which chains start.
- `engine.py` joins the runner to the abstract engine.
- `hmc.py` has the engines NUTS and HMC, with NumPyro's kernels; `gibbs.py` has Gibbs, for discrete
  sites that cannot be summed out.
- `mclmc.py` has the engine MCLMC, with BlackJAX's kernels; `blackjax_adapter.py` is the only file
  that knows BlackJAX.
- `langevin.py` has the dynamics with minibatches, and `sgmcmc.py` the engines SGLD, SGHMC and
  CyclicalSGMCMC, which differ in their friction and step sizes.
- `findings.py` says what is wrong with draws, for diagnoses.
- `batched.py` runs one chain on each of many data sets, for simulation-based calibration.

A new engine is a sampler (a subclass of `AbstractSampler`) and a frozen dataclass of settings
(a subclass of `AbstractMCMC`) whose method `sampler` returns it.

A problem is split into its numbers and its form (`inference/sharing.py`). `runner/sharing.py` keeps
the last 32 compiled functions by engine, layout and form, and gives them the numbers as arguments.
So the folds of a cross-validation compile once. Programs that need the values of their arguments in
Python (`len(np.unique(group))`) are compiled anew for each fit.
"""
