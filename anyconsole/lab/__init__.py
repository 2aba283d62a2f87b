"""A disposable real anycast network in network namespaces of this machine, for a first run, for demos and for tests.

`Lab` is the whole of it: `Lab("default").up()`, `.down()`, `.break_("nameserver", "fra1", "de")`, `.heal()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyconsole.lab.paths import profile_path

if TYPE_CHECKING:
    from anyconsole.lab.lab import Lab

__all__ = ["Lab", "profile_path"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what a module's __getattr__ returns
    # Netlink takes a while to import: only for those who really use the lab.
    if name == "Lab":
        from anyconsole.lab.lab import Lab  # noqa: PLC0415

        return Lab
    raise AttributeError(name)
