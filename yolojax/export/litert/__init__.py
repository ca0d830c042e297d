"""Networks as files for LiteRT, by a writer of their own."""
