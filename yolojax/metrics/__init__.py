"""Evaluation metrics on the host: NumPy only, no JAX.

Axes: T targets of one image, D detections of one image, C classes that have targets.
"""
