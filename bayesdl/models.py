"""The models and their parts: the one list of them.

A new model takes two lines here: its import, and its name in `__all__`. The documentation's
table, the command line, saved files, the contract tests and `bdl.NAME` follow from that. A package
of one's own calls `register_model`.
"""

from __future__ import annotations

from bayesdl.amortized.prior_mixture import PriorMixture
from bayesdl.amortized.random_bnn import RandomBNN
from bayesdl.amortized.tables.spec import RandomTable
from bayesdl.average.spec import Table
from bayesdl.bnn.conv import ConvNet
from bayesdl.bnn.spec import BNN
from bayesdl.circuits.schema import CircuitColumn, CircuitSchema
from bayesdl.circuits.spec import Circuit
from bayesdl.formula.spec import Formula
from bayesdl.frozen.last_layer import LastLayer
from bayesdl.frozen.schema import FrozenSchema
from bayesdl.frozen.spec import Frozen
from bayesdl.gp.spec import GP
from bayesdl.gp.student_t import StudentTProcess
from bayesdl.model.base import AbstractModel
from bayesdl.model.program import Program
from bayesdl.model.registry import register_model, register_spec
from bayesdl.tensor.mode import Mode
from bayesdl.tensor.spec import FunBaT

# In the order of tables and of the command line's help.
__all__ = [  # noqa: RUF022
    "Program",
    "Table",
    "BNN",
    "ConvNet",
    "GP",
    "StudentTProcess",
    "Formula",
    "Circuit",
    "FunBaT",
    "Mode",
    "RandomBNN",
    "RandomTable",
    "PriorMixture",
    "Frozen",
    "LastLayer",
]

for _name in __all__:
    _class = globals()[_name]
    if issubclass(_class, AbstractModel):
        register_model(_class)
    else:
        register_spec(_name)(_class)

register_spec("FrozenSchema")(FrozenSchema)
register_spec("CircuitSchema")(CircuitSchema)
register_spec("CircuitColumn")(CircuitColumn)
