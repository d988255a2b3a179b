"""The contract of all engines: problems, structures, engines, results, keys, progress and checkpoints."""
