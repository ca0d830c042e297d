"""Tasks: the only place where model, loss, decoding and metric meet."""

from typing import Any

from yolojax.tasks.detect import Detect

TASKS: dict[str, Any] = {"detect": Detect}
