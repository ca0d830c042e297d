"""Decoded pictures, kept or not."""
