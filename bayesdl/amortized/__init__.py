"""Prior-data fitted networks: training on a prior, answers in one forward pass, and priors made for it."""
