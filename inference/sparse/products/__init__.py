"""How layers multiply by few active weights: kernels, random weights, and NumPy alone.

`kernels.py` computes products with the matrix of a pattern, one kernel for each structure, and
`kernel_choice.py` selects the kernel of each store. `sparse_product.py` draws the weights from q
while the network runs. `portable.py` reads exported files and predicts with NumPy alone.
"""
