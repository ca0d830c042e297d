"""From things to compiled programs."""
