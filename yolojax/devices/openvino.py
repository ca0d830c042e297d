"""OpenVINO and what quantises for it, told to keep to themselves that they are used.

Both report to their makers from a process of their own, on import and without asking.
"""

import os
import sys
from typing import Any


def openvino() -> Any:
    """Returns the library that runs networks.

    Raises:
        ImportError: it is not installed.
    """
    # Without the package that reports, the library has a stand-in that does nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def nncf() -> Any:
    """Returns the library that makes whole numbers of networks.

    Raises:
        ImportError: it is not installed.
    """
    openvino()
    os.environ.setdefault("NNCF_CI", "1")  # its own word for not reporting
    import nncf

    return nncf
