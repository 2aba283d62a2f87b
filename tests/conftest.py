"""What all tests share: one lab per run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from anyconsole.lab import Lab, requirements


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A run started in the background ignores ctrl-c, and so would every program that a test interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


_LONG_FILES = (
    "test_drain_faults.py", "test_drain_gobgp.py", "test_drain.py", "test_drift.py", "test_virtual.py", "test_guards.py",
    "test_load_stops.py", "test_load.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes go first: what is left at the end is short, and no worker has to wait for another's long one."""
    places = {name: place for place, name in enumerate(_LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)) if "e2e" in item.path.parts else len(places))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need root or Debian's daemons say so instead of failing where those are missing."""
    if item.get_closest_marker("lab") is not None and (reason := requirements.unmet()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A lab of this run's own, built when the first test asks for it and removed after the last. Skips where none can be built."""
    if reason := requirements.unmet():
        pytest.skip(reason)
    built = Lab(f"t{os.getpid()}")
    try:
        built.up()
        yield built
    finally:
        built.down()


@pytest.fixture
def breakable_lab(lab: Lab) -> Iterator[Lab]:
    """The lab, whole; whatever the test breaks in it is healed afterwards."""
    yield lab
    lab.heal()
    lab.wait_until_well()
