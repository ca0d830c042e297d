"""Files of PyTorch, read without it: nothing in them is run."""
