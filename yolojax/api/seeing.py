"""Pictures and videos through a network: what all models can do."""

import abc
from typing import Any

from yolojax.api import looking, settings
from yolojax.inference.predictor import Predictor
from yolojax.tracking import Tracker


class Seeing(abc.ABC):
    """Has `predict` and `track`; whoever inherits says what the network is."""

    _kept: looking.Kept

    def __call__(self, source: Any, stream: bool = False, **keywords: Any) -> Any:
        """Returns what `predict` does."""
        return self.predict(source, stream, **keywords)

    def predict(self, source: Any, stream: bool = False, **keywords: Any) -> Any:
        """Returns what is found in pictures and videos, a Result for each of them.

        A picture that cannot be read is told in the log and left out.

        Args:
            source: path of a picture, video, folder or list, pattern, address, number
                of a camera; array [H, W, 3], PIL picture; or several of them.
            stream: give results one by one, as they come, instead of a list.
            keywords: `order` of the channels of arrays, "bgr" (as OpenCV has it) or
                "rgb"; `workdir`, folder of the files that save=True and others ask
                for; `verbose`, print a line for each picture; and settings.

        Returns:
            list of Result, or an iterator; with embed=LAYERS arrays [F].

        Raises:
            ValueError: a setting or the source cannot be.
        """
        return self._look("predict", source, stream, keywords, None)

    def track(
        self,
        source: Any,
        stream: bool = False,
        *,
        persist: bool = False,
        tracker: str | Tracker = "bytetrack",
        **keywords: Any,
    ) -> Any:
        """Returns what is found in the frames of videos, with identities.

        Args:
            source: as of `predict`. Each video has tracks of its own; pictures are
                taken as the frames of one.
            stream: as of `predict`.
            persist: go on with the tracks of the last such call, until `reset`: for
                programs that read the frames themselves.
            tracker: bytetrack, botsort, or an object with their methods `update` and
                `reset`, which keeps its own tracks.
            keywords: as of `predict`, and settings of trackers.

        Raises:
            ValueError: as of `predict`.
        """
        own = None
        if isinstance(tracker, str):
            keywords["tracker"] = tracker.removesuffix(".yaml")  # as others write it
        elif hasattr(tracker, "update") and hasattr(tracker, "reset"):
            own = tracker
        else:
            raise ValueError(
                f"tracker = {tracker!r}: expected a name, or an object with the methods"
                " update and reset of yolojax.tracking.Tracker."
            )
        return self._look(
            "track",
            source,
            stream,
            keywords,
            looking.Following(self._kept, persist, own),
        )

    def reset(self) -> None:
        """Forgets the tracks that `track(..., persist=True)` would go on with."""
        self._kept.tracker = None

    @abc.abstractmethod
    def _network(self) -> dict[str, Any]:
        """Returns the settings that say what the network is."""

    @abc.abstractmethod
    def _predictor(self, config: Any) -> Predictor:
        """Returns what looks at pictures, with what earlier calls have made."""

    def _look(
        self,
        command: str,
        source: Any,
        stream: bool,
        keywords: dict[str, Any],
        following: looking.Following | None,
    ) -> Any:
        """Returns what `predict` or `track` do."""
        call = looking.Call.taken_from(keywords, stream)
        config = settings.of_use(command, self._network(), keywords)
        with settings.as_keywords():
            predictor = self._predictor(config)
            found = looking.results(predictor, source, config, call, following)
        return found if stream else looking.collected(found)
