"""Studies: many runs, compared; a study or a search is a file, in the words of here."""

from yolojax.studies.search import sweep
from yolojax.studies.search.description import Search
from yolojax.studies.search.space import Between, Choice
from yolojax.studies.study import Arm, Study

__all__ = ["Arm", "Between", "Choice", "Search", "Study", "sweep"]
