"""Probabilistic circuits for tables: the joint distribution of mixed columns with missing cells.

    post = bayesdl.fit(bayesdl.Circuit(), table)
    post.predict(rows, of="price"), post.impute(table), post.density(rows), post.outliers(rows)

- `spec.py`: `Circuit`, the model. - `schema.py`: how its table is read, and the circuit's shape.
- `program.py`: the predictive of one column. - `fitted.py`: what its fits answer.
- `completing.py`: the most probable cells.
The mathematics is in `inference/circuits/`.
"""
