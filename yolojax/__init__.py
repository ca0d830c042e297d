"""YOLO11 in JAX/Flax: training, validation and benchmarks of object detectors."""

__version__ = "0.1.0"
