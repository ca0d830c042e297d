"""The trials of a search, kept where several machines can share them.

Reference: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization (TPE).
"""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from yolojax.streams import stream
from yolojax.studies import grid, results
from yolojax.studies.grid import PlannedRun
from yolojax.studies.search import space
from yolojax.studies.search.description import BASE, Search, refit
from yolojax.studies.search.space import Between, Choice, Space
from yolojax.studies.study import Arm

STORAGE_FILE = "trials.log"  # beside search.py
STARTUP = 5  # trials before others are judged by them
_RUN, _FIXED = "run", "fixed"  # attributes of trials and of the whole
_EARLIER = "earlier"  # in the place of a run: it is one of before

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclasses.dataclass(frozen=True)
class Asked:
    """A trial, and the run that is to judge it."""

    trial: Any  # of Optuna
    run: PlannedRun
    begun_before: bool = False  # by an earlier start, or by another machine


class Trials:
    """The trials of a search, kept where several machines can share them."""

    def __init__(self, search: Search, root: Path) -> None:
        """Opens them, or begins anew.

        Args:
            search: from `load`.
            root: folder of the runs of all studies.

        Raises:
            ValueError: the storage cannot be opened, or holds another search; or a
                setting cannot be.
        """
        self.search, self.root = search, root
        base = self._base = self.planned({})
        self.metric = grid.metric_of(refit(search, {}), [base])
        self._study = _opened(search, self.metric, base.epochs)
        fixed = _fixed(search, base)
        known = self._study.user_attrs.get(_FIXED)
        if known not in (None, fixed):
            raise ValueError(
                f"{_where(search)} holds trials of a search with other settings, which"
                " say nothing here. Give this one another storage, or move that away."
            )
        if known is None:
            self._study.set_user_attr(_FIXED, fixed)
            self._begin(base)

    def planned(self, settings: Mapping[str, Any]) -> PlannedRun:
        """Returns the run that judges some settings."""
        whole = refit(self.search, settings)
        arm = Arm(space.said(settings) or BASE, settings)
        one = dataclasses.replace(whole, arms=(arm,), seeds=(self.search.seed,))
        return grid.planned(one, self.root)[0]

    def left(self) -> int:
        """Returns how many trials are still to begin."""
        return self.search.trials - len(self._of_states(*_COUNTED))

    def ask(self) -> Asked:
        """Returns a new trial."""
        # Machines that ask at different times see different numbers of trials, and
        # draw differently; one that asks again draws the same.
        count = len(self._study.get_trials(deepcopy=False))
        seed = int(stream("search", self.search.seed, count).integers(2**31))
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True
        )
        return self._asked(self._study.ask(_distributions(self.search.space)))

    def abandoned(self) -> list[Asked]:
        """Returns the trials that were begun and have no end yet, here or elsewhere."""
        running = self._of_states(optuna.trial.TrialState.RUNNING)
        return [
            self._asked(optuna.Trial(self._study, t._trial_id), begun_before=True)
            for t in running
            if t.params.keys() == self.search.space.keys()
        ]

    def report(self, asked: Asked, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Notes the epochs of a trial so far; returns whether it is hopeless."""
        known = asked.trial.storage.get_trial(asked.trial._trial_id)
        for row in rows:
            value = grid.value_of(row, self.metric)
            if value is not None and row["epoch"] not in known.intermediate_values:
                asked.trial.report(value, row["epoch"])
        return self.search.prune and asked.trial.should_prune()

    def tell(self, asked: Asked, value: float | None, *, pruned: bool = False) -> None:
        """Ends a trial: with a value, as hopeless, or as failed."""
        states = optuna.trial.TrialState
        state = states.PRUNED if pruned else states.FAIL
        if value is not None and not pruned:
            self._study.tell(asked.trial, value)
        else:
            self._study.tell(asked.trial, state=state)

    def best(self) -> tuple[dict[str, Any], float] | None:
        """Returns the settings with the best value, and that; None: none is there."""
        if not self._of_states(optuna.trial.TrialState.COMPLETE):
            return None
        best = self._study.best_trial
        return self._settings(best.params), best.value

    def is_base(self, settings: Mapping[str, Any]) -> bool:
        """Whether some settings are those of the base."""
        return self.planned(settings).key == self._base.key

    def rows(self) -> list[dict[str, Any]]:
        """Returns the trials for people: number, state, value, epochs, settings."""
        return [
            {
                "trial": t.number,
                "state": _WORDS[t.state],
                self.metric: t.value if t.state.name == "COMPLETE" else _last(t),
                "epochs": max(t.intermediate_values, default=0),
                "run": t.user_attrs.get(_RUN, ""),
                **self._settings(t.params),
            }
            for t in self._study.get_trials(deepcopy=False)
            if t.params
        ]

    def importances(self) -> dict[str, float]:
        """Returns how much of the good trials each setting explains, 0..1; {}: unknown.

        Reference: Watanabe et al. 2023, PED-ANOVA, arXiv:2304.10255.
        """
        if len(self._of_states(optuna.trial.TrialState.COMPLETE)) < 2 * STARTUP:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(
            self._study, evaluator=evaluator
        )
        return {name: float(value) for name, value in found.items()}

    def _begin(self, base: PlannedRun) -> None:
        """Adds what is known before: the base, and runs of studies that fit."""
        here = _inside(self.search.space, base.decides)
        if here is not None:
            self._study.enqueue_trial(here)
        distributions = _distributions(self.search.space)
        for run, value in _earlier(self, base):
            params = _inside(self.search.space, run)
            if params is None or params == here:
                continue
            trial = optuna.create_trial(
                params=params,
                distributions=distributions,
                value=value,
                user_attrs={_RUN: _EARLIER},
            )
            self._study.add_trial(trial)

    def _asked(self, trial: Any, *, begun_before: bool = False) -> Asked:
        run = self.planned(self._settings(trial.params))
        trial.set_user_attr(_RUN, run.key)
        return Asked(trial, run, begun_before)

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of settings as they are written, of those of a trial."""
        found = {}
        for name, value in params.items():
            one = self.search.space[name]
            if isinstance(one, Between) and not one.whole:
                value = one.short(value)
            found[name] = value
        return found

    def _of_states(self, *states: Any) -> list[Any]:
        return [
            t
            for t in self._study.get_trials(deepcopy=False, states=states)
            if t.user_attrs.get(_RUN) != _EARLIER
        ]


FINISHED = "finished"
_STATES = optuna.trial.TrialState
_COUNTED = (_STATES.COMPLETE, _STATES.PRUNED, _STATES.FAIL, _STATES.RUNNING)
_WORDS = {
    _STATES.COMPLETE: FINISHED,
    _STATES.PRUNED: "ended early",
    _STATES.FAIL: "failed",
    _STATES.RUNNING: "at work",
    _STATES.WAITING: "waiting",
}


def _opened(search: Search, metric: str, epochs: int) -> Any:
    """Returns the study of Optuna that keeps the trials.

    Args:
        search: from `load`.
        metric: to be as large as possible.
        epochs: of a trial. In the first ones rank is luck: none is ended by them.

    Raises:
        ValueError: the storage cannot be had.
    """
    pruner: Any = optuna.pruners.NopPruner()
    if search.prune:
        pruner = optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=-(-epochs // 2))
    try:
        storage: Any = search.storage
        if storage is None:
            path = str(search.folder / STORAGE_FILE)
            storage = JournalStorage(JournalFileBackend(path))
        return optuna.create_study(
            storage=storage,
            study_name=f"{search.folder.name} {metric}",
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )
    except (ImportError, OSError) as error:
        raise ValueError(f"{_where(search)} cannot be opened: {error}.") from error
    except Exception as error:  # each database has classes of its own
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{_where(search)} cannot be opened: {said[0]}") from error


def _where(search: Search) -> str:
    return search.storage or str(search.folder / STORAGE_FILE)


def _fixed(search: Search, base: PlannedRun) -> str:
    """Returns a hash of all that trials of a search have in common."""
    rest = {k: v for k, v in base.decides.items() if k not in search.space}
    parts = [rest, {name: str(one) for name, one in search.space.items()}]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _distributions(given: Space) -> dict[str, Any]:
    """Returns a space as Optuna has it."""
    found: dict[str, Any] = {}
    for name, one in given.items():
        if isinstance(one, Choice):
            found[name] = optuna.distributions.CategoricalDistribution(one.values)
        elif one.whole:
            low, high = int(one.low), int(one.high)
            found[name] = optuna.distributions.IntDistribution(low, high, log=one.log)
        else:
            found[name] = optuna.distributions.FloatDistribution(
                float(one.low), float(one.high), log=one.log
            )
    return found


def _inside(given: Space, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the settings of a space among others; None: one is outside of it."""
    found = {}
    for name, one in given.items():
        value = settings.get(name)
        if isinstance(one, Choice):
            if value not in one.values:
                return None
        elif not isinstance(value, int | float) or not one.low <= value <= one.high:
            return None
        found[name] = value
    return found


def _earlier(trials: Trials, base: PlannedRun) -> list[tuple[dict[str, Any], float]]:
    """Returns finished runs that differ from the base in the space alone, with values.

    Those of all studies in the same folder are looked at: runs with another seed too,
    since what they say of the settings is the same. Not with those of the repeat: what
    judges the winner must not have chosen it.
    """
    free = {*trials.search.space, "seed"}
    found = []
    for decides, metrics in results.recorded_runs(trials.root):
        other = {k for k, v in base.decides.items() if decides.get(k, v) != v}
        fresh = decides.get("seed") in trials.search.refit_seeds
        if other <= free and not fresh and trials.metric in metrics:
            found.append((decides, metrics[trials.metric]))
    return found


def _last(trial: Any) -> float | None:
    """Returns the newest value that a trial without an end reported."""
    seen = trial.intermediate_values
    return seen[max(seen)] if seen else None
