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
