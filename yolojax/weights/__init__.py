"""Weights from elsewhere: PyTorch checkpoints, read without PyTorch."""
