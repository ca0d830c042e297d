"""Messages of the log, as lines of a console."""

import logging
import sys
from typing import TextIO


def to_screen(stream: TextIO) -> logging.Handler:
    """Returns a handler that prints messages as plain lines.

    Where nobody reads any more it says so as `print` does.
    """
    handler = _ToScreen(stream)
    handler.setFormatter(_Plain())
    return handler


class _ToScreen(logging.StreamHandler):
    """Prints messages."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raises BrokenPipeError, and reports other errors as usual."""
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            raise error
        super().handleError(record)


class _Plain(logging.Formatter):
    """Plain lines, with the level named only where it says something."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno > logging.INFO:
            return f"{record.levelname.lower()}: {text}"
        return text
