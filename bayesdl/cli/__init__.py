"""The command line `bayesdl`.

In the order in which a command runs:

- `main.py`: sets JAX up, runs a command, shows errors in one line.
- `parser.py`, with `arguments.py`: the commands and their options. The choices of models and
  engines come from `bayesdl.models` and `bayesdl.engines`.
- `commands.py`: what `fit`, `predict`, `check`, `summary`, `engines` and `demo` do; `output.py`:
  their output for a person or a program.
- `building.py`, with `settings.py`: models and engines from names and `--set`.
- `tables.py`: tables in files.
- `support_table.py`: which engine runs which model, a table of the documentation; `demo.py`: the
  demonstration.
- `recommend/`: the commands for recommenders; `formula/`: formulas and effects; `circuits/`:
  `impute` and `outliers`.
"""
