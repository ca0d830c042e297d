"""What a caller may want to tell apart from other errors, by type."""


class MissingSplitError(ValueError):
    """A data set has no such split."""


class NonFiniteLoss(Exception):
    """The loss or the gradient stopped being a number."""


class DiskFull(OSError):
    """There is no room for what a run writes."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; its state is saved."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status  # exit status
