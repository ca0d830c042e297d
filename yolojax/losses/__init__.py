"""Target assignment and losses: arrays in, arrays out."""
