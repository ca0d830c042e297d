"""What computes predictions: compiled by JAX, or an exported file and its runtime."""
