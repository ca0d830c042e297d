"""Becomes another program that runs on some cores and ends with its parent.

A program of its own, started by its path with nothing but Python's own library, since
cores must be chosen before the threads of other libraries are there:

    python -I pinned.py PARENT CORES COMMAND ...
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def main(arguments: list[str]) -> None:
    """Runs a command in this process; does not return.

    Args:
        arguments: number of the process that started this one; cores, separated by
            commas, or "" for all; the command and its arguments.
    """
    parent, cores, *command = arguments
    if sys.platform == "linux":
        # The kernel tells this process, whatever it runs, when its parent is gone: a
        # study that was killed leaves nothing at work behind.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            sys.exit(128 + signal.SIGTERM)  # it was gone before
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, cores.split(",")))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
