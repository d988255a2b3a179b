"""Training a sparse posterior: optimiser steps, exchanges of tiles, and pruning."""
