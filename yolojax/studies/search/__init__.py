"""Many settings tried: sweeps that are laid out before, and searches that learn."""
