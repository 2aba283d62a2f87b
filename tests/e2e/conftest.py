"""What all end-to-end tests share: the console in a terminal, on the lab of this run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from tests.e2e.observe import open_console
from tests.terminal import Terminal


@pytest.fixture
def console(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens consoles (`columns`, `rows`, and environment variables by name); whatever is left of them at the end is killed."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(open_console(lab, tmp_path, **how))
