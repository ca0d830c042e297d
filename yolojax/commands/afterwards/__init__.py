"""Commands about runs that are there: what came of them, and one step once more."""
