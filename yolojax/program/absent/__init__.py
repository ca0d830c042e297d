"""Devices that are described, not present: their compilers run all the same."""
