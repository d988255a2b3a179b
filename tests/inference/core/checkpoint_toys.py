"""What tests of checkpoints share."""

from toys import entries, product_program

import bayesdl as bdl
from inference.core.progress import AbstractProgress

FAST = bdl.NUTS(60, 120, 2)


def fit(engine=FAST, **options):
    i, j, y = entries()
    return bdl.fit(product_program, i, j, y=y, engine=engine, **{"progress": False} | options)


class Interrupting(AbstractProgress):
    """Ctrl-C after so many draws, warm-up included."""

    def __init__(self, after):
        self.left = after

    def note(self, message):
        pass

    def start(self, total, label):
        pass

    def advance(self, steps, **facts):
        self.left -= steps
        if self.left <= 0:
            raise KeyboardInterrupt

    def close(self):
        pass
