"""The commands, one page each."""
