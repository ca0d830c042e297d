"""One step of a run again: what it computed, and why it was not finite."""
