"""Which weights may be active: patterns of tiles, budgets and layouts."""
