"""The campaign of faults: `pytest -n0 -s -m faults tests/faults --kills 100 --faults-seed 0
--examples 300 --hypothesis-seed 0`.

Everything is small, and every fault is drawn from the seed, so that the same command meets the
same faults. At the end a table tells how many were tried, survived and lost.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from functools import partial
from random import Random

import pytest
from campaign import Study, Tally, results
from hypothesis import HealthCheck, settings
from recipe_doubles import save_folder, save_generator


def pytest_addoption(parser: pytest.Parser) -> None:
    """The campaign's own options."""
    parser.addoption("--kills", type=int, default=10, help="SIGKILLs of the campaign of faults")
    parser.addoption("--examples", type=int, default=300, help="files that a fuzz test reads")
    parser.addoption("--faults-seed", type=int, default=0, help="seed of the campaign of faults")


_TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table, and set how hypothesis is used."""
    config.stash[_TALLY] = Tally()
    settings.register_profile(
        "faults",
        max_examples=config.getoption("--examples"),
        deadline=timedelta(seconds=60),  # of a busy machine
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("faults")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    tally = terminalreporter.config.stash[_TALLY]
    if not tally.tried:
        return
    terminalreporter.write_line(f"{'fault':<52}{'tried':>7}{'survived':>10}{'lost':>6}")
    for kind, tried in tally.tried.items():
        kept = tally.survived[kind]
        terminalreporter.write_line(f"{kind:<52}{tried:>7}{kept:>10}{tried - kept:>6}")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Where faults are counted."""
    return request.config.stash[_TALLY]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Random:
    """Of the seed and the test's name."""
    return Random(f"{request.config.getoption('--faults-seed')} {request.node.name}")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, run once without a fault."""
    root = tmp_path_factory.mktemp("faults")
    save_generator(root / "generator")
    save_folder(root / "data")
    begun, out = Study(root), root / "out"
    with tempfile.NamedTemporaryFile("r+") as told:
        tell = partial(print, file=told, flush=True)
        ended, turns = begun.told(out, at=lambda _, path: tell(path))
        told.seek(0)
        writes = tuple(told.read().splitlines())
    assert ended.status == 0, ended.errors
    return Study(root, results(out), writes, turns)
