"""A pod is ready while its real name server answers on every service address, and says why when it isn't."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anyconsole.drivers.kube import observer
from anyconsole.drivers.kube.observer import Freshness, Observer, Settings, TroubleError
from tests.drivers.kube.stack import fleet
from tests.drivers.kube.test_render import of, one

ZONE = """\
$ORIGIN {zone}
@ 3600 IN SOA ns.example.de. hostmaster.example.de. {serial} 7200 1800 1209600 300
@ 3600 IN NS ns.example.de.
"""
V4, V6 = "192.0.2.53", "2001:db8:de::53"
PROGRAM = Path(observer.__file__)


# In small


def settings(lag: float = 0, zones: tuple[str, ...] = ("example.de",)) -> Settings:
    return Settings((V4, V6), ("10.42.0.7", "fd00:42::7"), zones, ("198.18.8.1",), lag, 0)


def test_every_service_address_is_asked_over_udp_and_tcp_at_the_pods_address_of_its_family() -> None:
    asked: list[tuple[str, str, bool]] = []

    def ask(address: str, zone: str, over_tcp: bool) -> int:
        asked.append((address, zone, over_tcp))
        return 1

    assert Observer(settings(), ask).look() == []
    assert asked == [(a, "example.de", tcp) for a in ("10.42.0.7", "fd00:42::7") for tcp in (False, True)]


def test_a_pod_without_an_address_of_a_family_isnt_ready_for_it() -> None:
    single = settings()._replace(pod_addresses=("10.42.0.7",))
    assert Observer(single, lambda *_: 1).look() == [f"{V6}: the pod has no address of this family"]
    assert Observer(single._replace(zones=()), lambda *_: 1).look() == ["nothing to ask for"]


def test_a_verdict_that_grows_old_is_none_and_the_loop_that_hangs_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Observer(settings(), lambda *_: 1)
    assert watched.verdict() == ["nothing was asked yet"]
    watched.look()
    assert (watched.verdict(), watched.is_alive()) == ([], True)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert "s old" in watched.verdict()[0]
    assert not watched.is_alive()


def test_a_zone_is_stale_only_after_it_was_behind_its_primaries_for_as_long_as_the_profile_says() -> None:
    fresh = Freshness(lag=100)
    assert fresh.trouble("z", 1, 0) == ""
    fresh.hear("z", 5)
    fresh.hear("z", 4)  # another primary, itself behind
    assert fresh.trouble("z", 1, 10) == ""
    assert fresh.trouble("z", 1, 110) == ""
    assert fresh.trouble("z", 1, 111) == "z has serial 1, its primaries have had 5 or newer for 101 s"
    assert fresh.trouble("z", 2, 112) == ""  # it moves
    assert fresh.trouble("z", 5, 300) == ""
    never = Freshness(lag=0)
    never.hear("z", 5)
    assert [never.trouble("z", 1, at) for at in (0, 1e9)] == ["", ""]


def test_serials_are_compared_round_the_corner() -> None:
    assert observer.is_older(0xFFFFFFFF, 3)
    assert not observer.is_older(3, 0xFFFFFFFF)
    assert not observer.is_older(3, 3)


def test_serials_are_told_beside_those_of_the_primaries_and_silence_is_a_dash() -> None:
    known = {("10.42.0.7", "example.de"): 7, ("198.18.8.1", "example.de"): 8, ("fd00:42::7", "nic.example"): 1}

    def ask(address: str, zone: str, over_tcp: bool) -> int:
        assert not over_tcp
        if (address, zone) not in known:
            raise TroubleError("no answer")
        return known[address, zone]

    told = list(observer.tell_serials(settings(zones=("example.de", "nic.example", "enum.example")), ask))
    assert told == ["example.de 7 8", "nic.example 1 -", "enum.example - -"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [(0x8402, "SERVFAIL"), (0x8405, "REFUSED"), (0x8000, "isn't authoritative"), (0x0400, "something else")],
)
def test_an_answer_that_is_none_is_named(flags: int, words: str) -> None:
    asked = observer.query("example.de", 7)
    with pytest.raises(TroubleError, match=words):
        observer.serial_in(struct.pack("!6H", 7, flags, 1, 1, 0, 0) + asked[12:], asked)


@pytest.mark.parametrize("length", range(0, 40, 3))
def test_an_answer_that_is_cut_off_makes_no_sense(length: int) -> None:
    asked = observer.query("example.de", 7)
    whole = struct.pack("!6H", 7, 0x8400, 1, 1, 0, 0) + asked[12:] + b"\xc0\x0c\x00\x06\x00\x01"
    with pytest.raises(TroubleError):
        observer.serial_in(whole[:length], asked)


def test_hundreds_of_zones_take_turns() -> None:
    zones = tuple(f"z{number}.example" for number in range(100))
    asked: set[str] = set()

    def ask(_: str, zone: str, __: bool) -> int:
        asked.add(zone)
        return 1

    watched = Observer(settings(zones=zones), ask)
    watched.look()
    assert len(asked) == observer.MOST_ZONES
    for _ in range(3):
        watched.look()
    assert asked == set(zones)


# For real: NSD with its rendered configuration, in a network namespace of its own


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=20)


class Pod:
    """A network namespace with a name server and an observer in it, like those of a pod."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *argv],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / f"{Path(argv[0]).name}-{len(self.processes)}.log").open("wb"),
        )
        self.processes.append(process)
        return process

    def get(self, path: str) -> tuple[int, str]:
        """What the observer says, asked from inside."""
        code = (
            "import sys, urllib.request, urllib.error\n"
            "try: a = urllib.request.urlopen(sys.argv[1], timeout=5)\n"
            "except urllib.error.HTTPError as e: a = e\n"
            "except OSError: print(0); sys.exit()\n"
            "print(a.status); print(a.read().decode())\n"
        )
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-I", "-c", code, f"http://127.0.0.1:8090{path}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        status, _, words = done.stdout.partition("\n")
        return int(status), words.strip()

    def until(self, condition: Callable[[int, str], bool], path: str = "/ready") -> tuple[int, str]:
        end = time.monotonic() + 40
        while time.monotonic() < end:
            said = self.get(path)
            if condition(*said):
                return said
            time.sleep(0.2)
        raise AssertionError(f"{self.get(path)}\n{self.logs()}")

    def logs(self) -> str:
        """What its processes complained of last."""
        return "\n".join(log.read_text()[-1500:] for log in sorted(self.folder.glob("*.log")))

    def until_listening(self) -> None:
        argv = ["ip", "netns", "exec", self.name, "ss", "-Hltn", "sport = :53"]
        end = time.monotonic() + 20
        while not subprocess.run(argv, capture_output=True, timeout=20, check=True).stdout.strip():
            assert time.monotonic() < end
            time.sleep(0.05)


@contextmanager
def namespace(name: str, folder: Path) -> Iterator[Pod]:
    run("ip", "netns", "add", name)
    pod = Pod(name, folder)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield pod
    finally:
        for process in pod.processes:
            process.kill()
            process.wait()
        run("ip", "netns", "del", name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is the name server's own; pytest's are root's."""
    with tempfile.TemporaryDirectory(prefix="ac-pod-") as name:
        os.chown(name, 65532, 65532)
        yield Path(name)


@pytest.fixture
def wired(tmp_path: Path, folder: Path) -> Iterator[tuple[Pod, Pod]]:
    """A pod and its primary, each in a namespace, with a wire between them."""
    stem = f"k7-{os.getpid()}"
    with namespace(f"{stem}-p", tmp_path) as primary, namespace(f"{stem}-s", folder) as pod:
        run("ip", "-n", pod.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", primary.name)
        for side, addresses in ((pod, ("198.18.8.2/24", "2001:db8:ffff:8::2/64")), (primary, ("198.18.8.1/24",))):
            run("ip", "-n", side.name, "link", "set", "eth0", "up")
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                run("ip", "-n", side.name, "address", "add", address, "dev", "eth0", *nodad)
        yield pod, primary


def primary_of(primary: Pod, zones: tuple[str, ...]) -> None:
    """A primary with the zones of a tenant."""
    config = [
        "server:", "  ip-address: 198.18.8.1", '  username: ""', '  chroot: ""', f'  zonesdir: "{primary.folder}"',
        f'  pidfile: "{primary.folder}/pid"', f'  zonelistfile: "{primary.folder}/zl"', f'  xfrdfile: "{primary.folder}/xs"',
        f'  xfrdir: "{primary.folder}"', '  database: ""', "remote-control:", "  control-enable: no",
    ]  # fmt: skip
    for number, zone in enumerate(zones):
        (primary.folder / f"{number}.zone").write_text(ZONE.format(zone=f"{zone}.", serial=2026112401))
        config += ["zone:", f'  name: "{zone}"', f'  zonefile: "{number}.zone"', "  provide-xfr: 0.0.0.0/0 NOKEY"]
    (primary.folder / "nsd.conf").write_text("\n".join(config) + "\n")
    primary.start("nsd", "-d", "-c", f"{primary.folder}/nsd.conf")
    primary.until_listening()


# As in the pod: nobody in particular, without any capability, and none to be had.
AS_NOBODY = (
    "setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all",
)  # fmt: skip


def secondary_of(pod: Pod, kind: str = "nsd") -> subprocess.Popen[bytes]:
    """The name server of the pod, with its rendered command and configuration; only the folders are others."""
    inventory = fleet(
        ('  tsig_secret = "tsig"\n', ""),
        ('primaries = ["198.18.8.1", "2001:db8:ffff:8::1"]', 'primaries = ["198.18.8.1"]'),
        ('  kind = "nsd"\n', f'  kind = "{kind}"\n'),
    )
    objects = of(inventory, "de")
    data: dict[str, str] = one(objects, "ConfigMap", f"ns-{kind}")["data"]
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    (sysctl,) = spec["securityContext"]["sysctls"]
    run("ip", "netns", "exec", pod.name, "sysctl", "-w", f"{sysctl['name']}={sysctl['value']}")

    def there(text: str) -> str:
        return re.sub(r"/run/name-server|/run/configuration|/var/lib/name-server|/tmp", str(pod.folder), text)

    for name, text in data.items():
        (pod.folder / name).write_text(there(text).replace("@NODE@", "hv1"))
    return pod.start(*AS_NOBODY, *map(there, spec["containers"][0]["command"]))


@pytest.mark.lab
@pytest.mark.parametrize("own", [True, False], ids=["on lo", "on the pod's addresses"])
def test_a_pod_gets_ready_with_the_first_transfer_and_unready_when_its_name_server_goes(
    wired: tuple[Pod, Pod], own: bool
) -> None:
    pod, primary = wired
    zones = ("example.de", "4/25.2.0.192.in-addr.arpa")
    if own:
        for address in (f"{V4}/32", f"{V6}/128"):
            run("ip", "-n", pod.name, "address", "add", address, "dev", "lo")
    pod.start(
        sys.executable, "-I", str(PROGRAM),
        SERVICE_ADDRESSES=f"{V4} {V6}", POD_ADDRESSES="198.18.8.2,2001:db8:ffff:8::2", ZONES=" ".join(zones),
        PRIMARIES="198.18.8.1", SOA_LAG="3600",
    )  # fmt: skip
    _, words = pod.until(lambda code, words: code == 503 and "over UDP" in words)
    assert words == f"{V4}: example.de over UDP: Connection refused\n{V6}: example.de over UDP: Connection refused"
    assert pod.get("/live")[0] == 200
    primary_of(primary, zones)
    server = secondary_of(pod)
    assert pod.until(lambda code, _: code == 200) == (200, "ok")
    server.terminate()
    _, words = pod.until(lambda code, _: code == 503)
    assert V4 in words
    assert V6 in words
    assert pod.get("/metrics")[0] == 404


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["nsd", "knot", "bind"])
def test_each_name_server_runs_as_nobody_transfers_its_zones_and_says_tenant_and_node_in_its_nsid(
    wired: tuple[Pod, Pod], kind: str
) -> None:
    pod, primary = wired
    primary_of(primary, ("example.de", "4/25.2.0.192.in-addr.arpa"))
    secondary_of(pod, kind)
    code = (
        "import sys, dns.message, dns.query, dns.edns\n"
        "for zone in sys.argv[1:]:\n"
        " q = dns.message.make_query(zone, 'SOA', use_edns=0, options=[dns.edns.GenericOption(3, b'')])\n"
        " a = dns.query.udp(q, '2001:db8:ffff:8::2', timeout=2)\n"
        " print(a.answer[0][0].serial, a.options[0].nsid)\n"
    )
    argv = ["ip", "netns", "exec", pod.name, sys.executable, "-c", code, "example.de", "4/25.2.0.192.in-addr.arpa"]
    end = time.monotonic() + 30
    said = ""
    while said.count("2026112401 b'de.hv1'") < 2 and time.monotonic() < end:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout
    assert said.count("2026112401 b'de.hv1'") == 2, pod.logs()
