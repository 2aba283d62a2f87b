"""Users and groups of a lab host. They exist in the host's own /etc only; the machine's user database is never touched."""

from __future__ import annotations

from anyconsole.lab.topology import TENANTS, Node, router

__all__ = ["OPERATOR", "account_files", "gid", "uid"]

OPERATOR = "ops"
"""The console's login on every host: unprivileged, with just the groups that may read the daemons' sockets and logs."""

_FIRST_ID = 59500
_ACCOUNTS = ("ops", "sshd", "bird", "frr", "frrvty", "gobgp", "prometheus", "load", *(t.user for t in TENANTS))
_SPEAKER_GROUPS = {"bird": "bird", "frr": "frrvty", "gobgp": "gobgp"}
_TTY_GROUP = 5
_NOBODY = 65534


def uid(name: str) -> int:
    """Numeric user of an account, the same on every host and in every lab."""
    return 0 if name == "root" else _FIRST_ID + _ACCOUNTS.index(name)


def gid(name: str) -> int:
    """Numeric group of an account."""
    return uid(name)


def account_files(host: str, here: Node | None) -> dict[str, str]:
    """passwd, group, shadow, gshadow and nsswitch.conf of a host; `here` is the node that it is."""
    members = operator_groups(host, here)
    passwd = ["root:x:0:0:root:/root:/bin/bash"]
    group = ["root:x:0:", f"tty:x:{_TTY_GROUP}:"]
    shadow = ["root:*:20000:0:99999:7:::"]
    for name in _ACCOUNTS:
        home, shell = ("/home/ops", "/bin/bash") if name == OPERATOR else ("/nonexistent", "/usr/sbin/nologin")
        passwd.append(f"{name}:x:{uid(name)}:{gid(name)}:{name}:{home}:{shell}")
        inside = [OPERATOR] if name in members else []
        if name == "frrvty":
            inside.append("frr")
        group.append(f"{name}:x:{gid(name)}:{','.join(inside)}")
        shadow.append(f"{name}:*:20000:0:99999:7:::")
    passwd.append(f"nobody:x:{_NOBODY}:{_NOBODY}:nobody:/nonexistent:/usr/sbin/nologin")
    group.append(f"nogroup:x:{_NOBODY}:")
    return {
        "passwd": _lines(passwd),
        "group": _lines(group),
        "shadow": _lines(shadow),
        "gshadow": _lines([f"{line.split(':')[0]}:*::{line.split(':')[3]}" for line in group]),
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    }


def operator_groups(host: str, here: Node | None) -> set[str]:
    """Groups of the operator besides its own. On the peers' routers, which are looking glasses, it may read BIRD."""
    if here is None:
        return {"bird"} if router(host) is not None else set()
    return {_SPEAKER_GROUPS[here.speaker], *(t.user for t in TENANTS)}


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
