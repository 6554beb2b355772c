"""The speed of sums of products and of rescaling: compiled loops over the steps of `fixqnn.arith.fast`."""
