"""The choice of a circuit's shape: which columns depend on which, which blocks, how many states."""
