"""Studies: many runs, compared. A study is a file; `Study` and `Arm` are its words."""

from yolojax.studies.study import Arm, Study

__all__ = ["Arm", "Study"]
