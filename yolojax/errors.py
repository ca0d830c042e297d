"""What a caller may want to tell apart from other errors, by type."""


class MissingSplitError(ValueError):
    """A data set has no such split."""
