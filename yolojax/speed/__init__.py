"""What `benchmark` measures."""
