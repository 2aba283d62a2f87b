"""What takes too long for every run: `ANYCONSOLE_TESTS=all make test` runs it too."""

from __future__ import annotations

import os

import pytest

__all__ = ["LONG", "is_all"]


def is_all() -> bool:
    """True if everything is to be run, however long it takes."""
    return os.environ.get("ANYCONSOLE_TESTS") == "all"


LONG = pytest.mark.skipif(not is_all(), reason="takes long: ANYCONSOLE_TESTS=all runs it too")
