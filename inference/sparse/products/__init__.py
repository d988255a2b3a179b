"""Products with sparse random weights, on the device and in NumPy alone."""
