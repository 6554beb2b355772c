"""What to try next: Optuna's samplers, asked in rounds, so that a search can stop anywhere and go on as if it had not.

Three things are added to Optuna. No point is proposed twice. What the sampler draws depends on the seed and on the trials
before the round alone, not on when they were computed, nor by how many processes. And trials that a killed search left
open are asked once more.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from fixqnn.errors import BadFile

Params = Mapping[str, Any]
SAMPLERS = ("nsga2", "tpe")
OWNER, POINT = "fixqnn:owner", "fixqnn:point"  # attributes of trials
YOUNG = 60.0  # seconds that a trial may take to get an owner
TRIES = 60  # steps from a point that was tried already, before drawing anywhere
LISTED = 20_000  # points of a space that may be listed to find the last ones
WORST = 1e12  # told to the sampler in place of infinity


def make_sampler(name: str, seed: int, population: int) -> BaseSampler:
    """Make one of Optuna's samplers for several objectives."""
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=population)
    return TPESampler(seed=seed, n_startup_trials=population, multivariate=True)


def choices(distribution: BaseDistribution) -> list[Any]:
    """All values of a setting."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return list(range(distribution.low, distribution.high + 1, distribution.step))


class Unrepeated(BaseSampler):
    """A sampler's proposals, moved on by random steps where they were tried before.

    Parameters
    ----------
    name : str
        ``"nsga2"`` or ``"tpe"``.
    space : mapping of str to BaseDistribution
        What can be set.
    seed : int
        With the place of the trial in the search it settles all that is random.
    population : int
        Trials of a generation, and those that are drawn at random before TPE models anything.
    """

    def __init__(self, name: str, space: Mapping[str, BaseDistribution], seed: int, population: int) -> None:
        self.name, self.space, self.seed, self.population = name, dict(space), seed, population
        self.values = {name: choices(distribution) for name, distribution in space.items()}
        self.place = 0  # of the next trial in the search
        self.tried: set[tuple[Any, ...]] = set()

    def key(self, params: Params) -> tuple[Any, ...]:
        """Identify a point."""
        return tuple(distribution.to_internal_repr(params[name]) for name, distribution in self.space.items())

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All settings are drawn together."""
        return self.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw a point that was not tried."""
        first, second = np.random.SeedSequence([self.seed, self.place]).generate_state(2)
        inner = make_sampler(self.name, int(first), self.population)
        drawn = inner.sample_relative(study, trial, search_space)
        for name, distribution in search_space.items():
            if name not in drawn:
                drawn[name] = inner.sample_independent(study, trial, name, distribution)
        return self._untried({name: drawn[name] for name in self.space}, np.random.default_rng(int(second)))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never needed: all settings are drawn together."""
        raise AssertionError(f"{param_name} is no setting of this search")

    def _untried(self, params: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
        free = [name for name, values in self.values.items() if len(values) > 1]
        for _ in range(TRIES if free else 0):
            if self.key(params) not in self.tried:
                return params
            name = free[random.integers(len(free))]
            others = [value for value in self.values[name] if value != params[name]]
            params = {**params, name: others[random.integers(len(others))]}
        if math.prod(map(len, self.values.values())) <= LISTED:
            points = (dict(zip(self.values, point, strict=True)) for point in product(*self.values.values()))
            left = [point for point in points if self.key(point) not in self.tried]
            return left[random.integers(len(left))] if left else params
        while self.key(params) in self.tried:
            params = {name: values[random.integers(len(values))] for name, values in self.values.items()}
        return params


class Proposals:
    """One search in an Optuna study: rounds of points out, what was found of them in. A context manager.

    Parameters
    ----------
    storage : str, Path, BaseStorage or None
        A URL as Optuna takes it (``postgresql://…``, ``sqlite:///…``), the file of a journal, or None: in memory.
    study : str
        Name of the study; the same search always has the same.
    directions : sequence of str
        ``"maximize"`` or ``"minimize"``, one per objective.
    space : mapping of str to BaseDistribution
        What can be set.
    seeds : callable
        ``seeds() -> points`` to begin with; a search that goes on does not ask for them.
    sampler, seed, population
        As for `Unrepeated`.
    together : int
        Points of a round: asked before any of them is told.

    Raises
    ------
    BadFile
        For a storage that cannot be used.
    """

    def __init__(
        self,
        storage: str | Path | BaseStorage | None,
        study: str,
        directions: Sequence[str],
        space: Mapping[str, BaseDistribution],
        seeds: Callable[[], Iterable[Params]] = tuple,
        sampler: str = "nsga2",
        seed: int = 0,
        population: int = 20,
        together: int = 20,
    ) -> None:
        self.sampler = Unrepeated(sampler, space, seed, population)
        self.together, self.size = together, math.prod(map(len, self.sampler.values.values()))
        self.owner = f"{socket.gethostname()} {os.getpid()}"
        self.open: list[optuna.Trial] = []
        with usable(storage):
            self.study = optuna.create_study(
                storage=open_storage(storage),
                study_name=study,
                directions=list(directions),
                sampler=self.sampler,
                load_if_exists=True,
            )
            fresh = not self._trials()
            for trial in self._trials(TrialState.RUNNING):
                if _left_behind(trial):
                    self._ask_again(trial)
        for params in seeds() if fresh else ():
            self._queue(params)

    def __enter__(self) -> Proposals:
        return self

    def __exit__(self, *problem: object) -> None:
        """Leave no trial open: those asked and not told are queued for whoever goes on."""
        while self.open:
            self._ask_again(self.study.trials[self.open.pop(0).number])

    @property
    def asked(self) -> int:
        """How many points were asked, those under way elsewhere included."""
        return len(self._trials(TrialState.COMPLETE, TrialState.RUNNING))

    def told(self) -> list[dict[str, Any]]:
        """Points that were told, in the order in which they were asked."""
        return [dict(trial.params) for trial in self._trials(TrialState.COMPLETE)]

    def round(self, trials: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
        """Ask for the points of one round; none when `trials` points were asked, or the space holds no other.

        Rounds end at multiples of `together`, wherever a search was stopped before.
        """
        found = []
        asked = self.asked
        end = min((asked // self.together + 1) * self.together, trials, self.size)
        while asked < end:
            self._note_tried()
            self.sampler.place = asked
            trial = self.study.ask(self.sampler.space)
            trial.set_user_attr(OWNER, self.owner)
            _ = trial.relative_params  # has the sampler number the generation of queued trials too: else they breed not
            self.open.append(trial)
            if self._asked_elsewhere(trial):
                self.study.tell(trial, state=TrialState.FAIL)
                self.open.remove(trial)
            else:
                found.append((trial, dict(trial.params)))
            asked = self.asked
        return found

    def tell(self, trial: optuna.Trial, values: Sequence[float], violations: Mapping[str, float]) -> None:
        """Give the sampler what was found of a point: objectives, and by how much it breaks which constraint.

        Infinite numbers are told as very large ones: samplers divide by ranges.
        """
        for name, violation in violations.items():
            trial.set_constraint(name, min(violation, WORST))
        self.study.tell(trial, [min(max(float(value), -WORST), WORST) for value in values])
        self.open.remove(trial)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _queue(self, params: Params) -> None:
        self.study.enqueue_trial(dict(params), user_attrs={POINT: dict(params)})

    def _ask_again(self, trial: FrozenTrial) -> None:
        self.study.tell(trial.number, state=TrialState.FAIL)
        params = trial.user_attrs.get(POINT, trial.params)
        if set(params) == set(self.sampler.space):  # else it ended while it was drawn, and is drawn anew
            self._queue(params)

    def _asked_elsewhere(self, trial: optuna.Trial) -> bool:
        """Whether another process asked for the same point a moment before."""
        key = self.sampler.key(trial.params)
        others = [t for t in self._trials(TrialState.COMPLETE, TrialState.RUNNING) if t.number < trial.number]
        return any(set(t.params) == set(self.sampler.space) and self.sampler.key(t.params) == key for t in others)

    def _note_tried(self) -> None:
        for trial in self._trials(TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING):
            params = trial.user_attrs.get(POINT, trial.params)
            if set(params) == set(self.sampler.space):
                self.sampler.tried.add(self.sampler.key(params))


def _left_behind(trial: FrozenTrial) -> bool:
    """Whether the process that asked for a trial was one of this computer, and is no more."""
    owner = trial.user_attrs.get(OWNER)
    if owner is None:
        begun = trial.datetime_start
        return begun is not None and (datetime.now(begun.tzinfo) - begun).total_seconds() > YOUNG
    host, pid = owner.rsplit(" ", 1)
    if host != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(int(pid), 0)  # asks only whether there is such a process
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Journal(JournalFileBackend):
    """A journal that does not wait for the disk at every line.

    What a kill leaves is whole but for the last line; what a power cut takes is proposed again just so, and the rows lie in
    the store.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines, one process at a time."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._alone(), self.path.open("ab") as file:
            file.write(lines.encode())

    def mend(self) -> None:
        """Remove a last line that was cut off."""
        with self._alone(), self.path.open("rb+") as file:
            text = file.read()
            if not text.endswith(b"\n"):
                file.truncate(text.rfind(b"\n") + 1)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.lock.acquire()
        try:
            yield
        finally:
            self.lock.release()


def open_storage(storage: str | Path | BaseStorage | None) -> str | BaseStorage:
    """Give Optuna its storage: URLs as they are, files as journals, whose last line a kill may have cut off."""
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, BaseStorage) or "://" in str(storage):
        return storage
    journal = Journal(Path(storage))
    journal.mend()
    return JournalStorage(journal)


@contextmanager
def usable(storage: Any) -> Iterator[None]:
    """Turn what a storage raises when it is opened into one message that names it, without a password."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ImportError, OSError, ValueError, KeyError, TypeError) as problem:
        name = re.sub(r"//([^:/@]*):[^@]*@", r"//\1:***@", str(storage))
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise BadFile(
            f"{name} cannot be used as the storage of a search: {first}; the rows in the store do not depend on it: with "
            "another storage, the same search takes them from there"
        ) from problem
