"""The catalogue: NumPyro programs as people write them, with simulated data.

Each file holds one kind of program; `case.py` says what a case is. `test_programs.py` runs them.
"""

from programs import (
    arguments,
    discrete,
    families,
    groups,
    learned,
    observations,
    sequences,
    textbook,
)
from programs.case import Case

CASES: tuple[Case, ...] = (
    *textbook.CASES,
    *groups.CASES,
    *families.CASES,
    *sequences.CASES,
    *discrete.CASES,
    *observations.CASES,
    *arguments.CASES,
    *learned.CASES,
)
