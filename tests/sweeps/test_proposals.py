"""Proposals: no point twice, the same after any interruption, and Optuna's storages."""

from __future__ import annotations

import multiprocessing
import os
import signal

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from fixqnn.errors import BadFile
from fixqnn.sweeps.proposals import SAMPLERS, Proposals

SPACE = {**{f"w{i}": IntDistribution(2, 8) for i in range(8)}, "rounding": CategoricalDistribution(["floor", "ceil"])}
SMALL = {"a": IntDistribution(1, 4), "b": CategoricalDistribution(["x", "y", "z"])}
SEEDS = [{**{f"w{i}": bits for i in range(8)}, "rounding": "floor"} for bits in (8, 5)]


@pytest.fixture(autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def play(storage, sampler="nsga2", trials=50, stop_after=None, space=SPACE, seeds=SEEDS, end=KeyboardInterrupt, seed=5):
    """Search for large, cheap points; what was asked, in order. Ends like a Ctrl-C after some trials, if asked to."""
    told = 0
    with Proposals(
        storage, "s", ["maximize", "minimize"], space, lambda: seeds, sampler, seed, 12, 12 if sampler == "nsga2" else 4
    ) as p:
        while points := p.round(trials):
            for trial, params in points:
                if stop_after is not None and told >= stop_after:
                    end()
                    raise KeyboardInterrupt
                numbers = [value for value in params.values() if isinstance(value, int)]
                p.tell(trial, [sum(numbers), sum(n * n for n in numbers)], {"sum": sum(numbers) - 40.0})
                told += 1
        complete = p.study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        return [tuple(trial.params.items()) for trial in complete]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_asks_the_same_and_nothing_twice(sampler):
    first = play(None, sampler)
    assert len(first) == len(set(first)) == 50
    assert first == play(None, sampler)
    assert first != play(None, sampler, seed=6)
    assert [dict(params) for params in first[:2]] == SEEDS


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_interrupted_again_and_again_asks_the_same(sampler, tmp_path):
    for stop_after in (7, 0, 13):
        with pytest.raises(KeyboardInterrupt):
            play(tmp_path / "journal", sampler, trials=40, stop_after=stop_after)
    assert play(tmp_path / "journal", sampler, trials=40) == play(None, sampler, trials=40)


def test_a_search_that_is_killed_asks_the_same(tmp_path):
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    for stop_after in (17, 5):
        child = multiprocessing.get_context("fork").Process(
            target=play, args=(tmp_path / "journal",), kwargs={"stop_after": stop_after, "end": kill}
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    assert play(tmp_path / "journal") == play(None)


def test_a_longer_search_begins_with_the_shorter_one(tmp_path):
    shorter = play(tmp_path / "journal", trials=17)
    longer = play(tmp_path / "journal", trials=50)
    assert len(shorter) == 17
    assert longer[:17] == shorter
    assert longer == play(None, trials=50)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_gone_through_whole_and_then_the_search_ends(sampler):
    assert len(set(play(None, sampler, trials=100, space=SMALL, seeds=[]))) == 12
    assert play(None, sampler, space={}, seeds=[{}]) == [()]


def test_the_first_generation_is_spread_over_the_space():
    asked = [dict(params) for params in play(None, seeds=[], trials=12)]
    assert all(len({params[name] for params in asked}) >= 4 for name in SPACE if name != "rounding")
    assert len({params["rounding"] for params in asked}) == 2


def test_seeds_breed():
    """What only the seeds have comes up again in later generations far more often than by chance."""
    space = {f"w{i}": IntDistribution(0, 999) for i in range(6)}
    seed = dict.fromkeys(space, 0)  # the only feasible point, but for luck
    asked = [dict(params) for params in play(None, space=space, seeds=[seed], trials=60)]
    assert sum(params[name] == 0 for params in asked[12:] for name in space) > 20


def test_a_line_that_a_kill_cut_off_is_mended(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "journal", stop_after=20)
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    assert play(tmp_path / "journal") == play(None)


def test_a_database_serves_as_well(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    with pytest.raises(KeyboardInterrupt):
        play(url, space=SMALL, seeds=[], trials=8, stop_after=5)
    assert play(url, space=SMALL, seeds=[], trials=8) == play(None, space=SMALL, seeds=[], trials=8)


@pytest.mark.parametrize(
    "storage", ["nosuchdb://user:secret@host/x", "sqlite:////no/such/folder/x.db", "/no/such/folder/x"]
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(storage):
    with pytest.raises(BadFile, match="cannot be used as the storage of a search") as caught:
        play(storage)
    assert "secret" not in str(caught.value)
    assert storage.split("secret")[-1] in str(caught.value)


def test_a_damaged_journal_is_named(tmp_path):
    play(tmp_path / "journal", trials=3)
    text = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal").write_bytes(b"".join([*text[:2], b"rubbish\n", *text[2:]]))
    with pytest.raises(BadFile, match="journal cannot be used"):
        play(tmp_path / "journal")
