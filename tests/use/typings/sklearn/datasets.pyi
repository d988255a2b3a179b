"""What the loaders return that the README and the tutorials use; scikit-learn declares no types."""

from typing import Any, Literal, overload

import numpy as np
import pandas as pd

class _Frame:
    data: pd.DataFrame
    target: pd.Series

@overload
def load_diabetes(
    *, return_X_y: Literal[True], as_frame: Literal[True], scaled: bool = ...
) -> tuple[pd.DataFrame, pd.Series]: ...
@overload
def load_diabetes(*, as_frame: Literal[True], scaled: bool = ...) -> _Frame: ...
def load_digits(*, return_X_y: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...
def __getattr__(name: str) -> Any: ...
