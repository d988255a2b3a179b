"""Steps of training: `optimizer` on new data sets, and `bank` on data sets that are used again."""
