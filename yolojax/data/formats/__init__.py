"""How data sets lie on disk."""
