"""A name server's process as an unprivileged user sees it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from anyconsole.drivers.process import Mount, chroot_verdict, parse_mounts, parse_pid, parse_stat
from tests.drivers.samples import mutated, refuses_every_truncation, sample, survives, survives_every_truncation

SELF = parse_mounts(sample("proc", "mountinfo.self.txt"))
INSIDE = parse_mounts(sample("proc", "mountinfo.nsd-inside.txt"))
ROOT = Mount(1, "254:0", "/", "/")


@pytest.mark.parametrize(
    ("chroot", "mine", "its", "verdict"),
    [
        ("/tmp/acp/nsd", SELF, INSIDE, "inside"),  # noqa: S108  the path in the sample
        ("/tmp/acp/nsd/", SELF, INSIDE, "inside"),  # noqa: S108
        ("/tmp/acp/nsd", SELF, SELF, "outside"),  # noqa: S108
        ("/srv/de", SELF, INSIDE, "unknown"),
        ("", SELF, INSIDE, "unknown"),
        # a chroot that is no mountpoint: the kernel shows no "/" at all
        ("/srv/de", SELF, parse_mounts(sample("proc", "mountinfo.named-plain-directory.txt")), "inside"),
        # not chrooted, and the directory is no mountpoint
        ("/srv/de", [ROOT], [ROOT], "outside"),
        # the same in a mount namespace of its own (other numbers)
        ("/srv/de", [ROOT], [Mount(77, "254:0", "/", "/")], "outside"),
        # a file system of its own for the chroot
        ("/srv/de", [ROOT, Mount(9, "0:50", "/", "/srv/de")], [Mount(5, "0:50", "/", "/")], "inside"),
        # a bind mount that only the process's own mount namespace has
        ("/srv/de", [ROOT], [Mount(5, "254:0", "/srv/de", "/")], "inside"),
        # somewhere else altogether
        ("/srv/de", [ROOT], [Mount(5, "0:60", "/", "/")], "unknown"),
        # we see no root ourselves
        ("/srv/de", [], [ROOT], "unknown"),
    ],
)
def test_where_a_process_lives(chroot: str, mine: list[Mount], its: list[Mount], verdict: str) -> None:
    assert chroot_verdict(chroot, mine, its) == verdict


def test_spaces_in_mount_points_are_read() -> None:
    (mount,) = parse_mounts(b"1 0 8:1 / /mnt/a\\040b rw - ext4 /dev/x rw\n")
    assert mount.point == "/mnt/a b"


def test_stat_of_a_process_with_parentheses_in_its_name() -> None:
    whole = sample("proc", "stat.nsd").replace(b"(xfrd)", b"(x) S (y)")
    assert parse_stat(whole)[:2] == ("x) S (y", "S")


def test_truncation_and_mutation() -> None:
    refuses_every_truncation(parse_stat, sample("proc", "stat.nsd"))
    survives_every_truncation(parse_mounts, sample("proc", "mountinfo.self.txt"))
    survives_every_truncation(parse_pid, b"9918\n")

    @settings(max_examples=200, deadline=None)
    @given(content=mutated([sample("proc", "stat.nsd"), sample("proc", "mountinfo.self.txt"), b"9918\n"]))
    def check(content: bytes) -> None:
        for parse in (parse_stat, parse_mounts, parse_pid):
            survives(parse, content)

    check()
