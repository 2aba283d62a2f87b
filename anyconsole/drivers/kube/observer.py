"""Says whether a pod's name server answers: asks for the SOA of each zone on each service address, over UDP and TCP, every two seconds.

Runs in each name server pod, on Python 3.10 or newer with nothing but its standard library. The readiness of the pod, and so whether its
node announces the tenant, is what it says on /ready; /live says that it goes on asking. What is asked for is in the environment.

A service address leads to the pod by the Service, which only counts ready pods; so the pod asks its own address of that family in its
place, unless the service address itself is on an interface here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

PACE = 2.0
PATIENCE = 1.0
"""Seconds that one answer may take."""
PRIMARY_PACE = 30.0
LIVELY = 60.0
MOST_ZONES = 32
"""Zones asked for in one round; more take turns."""
DNS_PORT = 53

SOA, CLASS_IN = 6, 1
QUERY_RESPONSE, AUTHORITATIVE = 0x8000, 0x0400


class TroubleError(Exception):
    """Why an answer is none."""


class Settings(NamedTuple):
    """What is asked where. `lag` is seconds that a zone may be older than at the primaries, 0 is for ever."""

    service_addresses: tuple[str, ...]
    pod_addresses: tuple[str, ...]
    zones: tuple[str, ...]
    primaries: tuple[str, ...]
    lag: float
    port: int


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of a process."""

    def words(key: str) -> tuple[str, ...]:
        return tuple(environment.get(key, "").replace(",", " ").split())

    return Settings(
        words("SERVICE_ADDRESSES"),
        words("POD_ADDRESSES"),
        words("ZONES"),
        words("PRIMARIES"),
        float(environment.get("SOA_LAG") or 0),
        int(environment.get("PORT") or 8090),
    )


# Asking


def query(zone: str, number: int) -> bytes:
    """A question for the SOA of a zone."""
    labels = [label.encode("ascii") for label in zone.rstrip(".").split(".") if label]
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0, 1, 0, 0, 0) + name + struct.pack("!2H", SOA, CLASS_IN)


def serial_in(answer: bytes, asked: bytes) -> int:
    """The serial in an answer. Raises TroubleError."""
    try:
        number, flags, _, answers = struct.unpack_from("!4H", answer)
        if number != struct.unpack_from("!H", asked)[0] or not flags & QUERY_RESPONSE:
            raise TroubleError("answers something else")
        if flags & 0xF:
            raise TroubleError(
                {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED", 9: "NOTAUTH"}.get(flags & 0xF, "an error")
            )
        if not flags & AUTHORITATIVE:
            raise TroubleError("isn't authoritative")
        if answer[12 : len(asked)].lower() != asked[12:].lower():
            raise TroubleError("answers another question")
        at = len(asked)
        if not answers:
            raise TroubleError("has no SOA")
        at = after_name(answer, at)
        kind, _, _, length = struct.unpack_from("!2HIH", answer, at)
        at += 10
        if kind != SOA or len(answer) < at + length:
            raise TroubleError("has no SOA")
        return int(struct.unpack_from("!I", answer, after_name(answer, after_name(answer, at)))[0])
    except (struct.error, IndexError):
        raise TroubleError("makes no sense") from None


def after_name(message: bytes, at: int) -> int:
    """Where a name that begins there ends. Raises IndexError."""
    while message[at]:
        if message[at] & 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def ask(address: str, zone: str, over_tcp: bool, port: int = 0) -> int:
    """The serial of a zone as a name server tells it. Raises TroubleError."""
    asked = query(zone, secrets.randbelow(65536))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect((address, port or DNS_PORT))
            if not over_tcp:
                connection.send(asked)
                return serial_in(connection.recv(4096), asked)
            connection.sendall(struct.pack("!H", len(asked)) + asked)
            (length,) = struct.unpack("!H", exactly(connection, 2))
            return serial_in(exactly(connection, length), asked)
    except TimeoutError:
        raise TroubleError("no answer") from None
    except (OSError, struct.error) as error:
        raise TroubleError(getattr(error, "strerror", None) or "no answer") from None


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes. Raises OSError if there are fewer, and when they take too long together."""
    data, until = b"", time.monotonic() + PATIENCE
    while len(data) < count:
        more = connection.recv(count - len(data)) if time.monotonic() < until else b""
        if not more:
            raise OSError(0, "the answer is cut off")
        data += more
    return data


def is_here(address: str) -> bool:
    """Whether an address is on an interface of this pod."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def asked_for(service: str, pod_addresses: tuple[str, ...]) -> str:
    """The address to ask in place of a service address. Raises TroubleError."""
    if is_here(service):
        return service
    found = [address for address in pod_addresses if (":" in address) == (":" in service)]
    if not found:
        raise TroubleError("the pod has no address of this family")
    return found[0]


# Judging


def is_older(serial: int, than: int) -> bool:
    """Whether a serial is less than another (RFC 1982)."""
    return serial != than and (than - serial) % (1 << 32) < 1 << 31


class Freshness:
    """How long each zone has been older than at its primaries. Primaries that don't answer make nothing old."""

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._newest: dict[str, int] = {}
        self._behind: dict[str, tuple[int, float]] = {}

    def hear(self, zone: str, serial: int) -> None:
        """Note what a primary says."""
        if zone not in self._newest or is_older(self._newest[zone], serial):
            self._newest[zone] = serial

    def trouble(self, zone: str, serial: int, now: float) -> str:
        """What is wrong with a zone of this serial, "" if nothing is."""
        newest = self._newest.get(zone)
        if newest is None or not is_older(serial, newest):
            self._behind.pop(zone, None)
            return ""
        had, since = self._behind.get(zone, (serial, now))
        if had != serial:
            since = now
        self._behind[zone] = (serial, since)
        if not self._lag or now - since <= self._lag:
            return ""
        return f"{zone} has serial {serial}, its primaries have had {newest} or newer for {now - since:.0f} s"


class Observer:
    """Asks again and again, and keeps the last verdict: the troubles of a round, none if all is well."""

    def __init__(self, settings: Settings, ask: Callable[[str, str, bool], int] = ask) -> None:
        self._settings = settings
        self._ask = ask
        self._freshness = Freshness(settings.lag)
        self._turn = itertools.count()
        self._verdict: tuple[float, list[str]] | None = None

    def run(self) -> None:
        """Go on for ever."""
        threading.Thread(target=self._follow_primaries, daemon=True).start()
        while True:
            self.look()
            time.sleep(PACE)

    def look(self) -> list[str]:
        """One round; returns its troubles."""
        zones = self._zones()
        troubles = [f"{a}: {problem}" for a in self._settings.service_addresses for problem in self._look_at(a, zones)]
        if not zones or not self._settings.service_addresses:
            troubles = ["nothing to ask for"]
        self._verdict = (time.monotonic(), troubles)
        return troubles

    def verdict(self) -> list[str]:
        """The troubles now. A verdict that is old is one of them."""
        if self._verdict is None:
            return ["nothing was asked yet"]
        at, troubles = self._verdict
        age = time.monotonic() - at
        return troubles if age < PACE + LIVELY / 4 else [f"the last answer is {age:.0f} s old"]

    def is_alive(self) -> bool:
        """Whether it goes on asking."""
        return self._verdict is None or time.monotonic() - self._verdict[0] < LIVELY

    def _zones(self) -> tuple[str, ...]:
        zones = self._settings.zones
        if len(zones) <= MOST_ZONES:
            return zones
        first = next(self._turn) * MOST_ZONES
        return tuple(zones[(first + index) % len(zones)] for index in range(MOST_ZONES))

    def _look_at(self, service: str, zones: tuple[str, ...]) -> list[str]:
        """What is wrong at a service address. After what isn't an answer at all nothing more is asked there."""
        troubles = []
        zone, over = "", ""
        try:
            address = asked_for(service, self._settings.pod_addresses)
            for index, zone in enumerate(zones):
                over = "UDP"
                serial = self._ask(address, zone, False)
                if old := self._freshness.trouble(zone, serial, time.monotonic()):
                    troubles.append(old)
                if not index:
                    over = "TCP"
                    self._ask(address, zone, True)
        except TroubleError as trouble:
            troubles.append(f"{zone} over {over}: {trouble}" if zone else str(trouble))
        return troubles

    def _follow_primaries(self) -> None:
        while True:
            self.hear_primaries()
            time.sleep(PRIMARY_PACE)

    def hear_primaries(self) -> None:
        """Ask the primaries for their serials."""
        for primary in self._settings.primaries:
            for zone in self._settings.zones:
                try:
                    serial = self._ask(primary, zone, False)
                except TroubleError:
                    break
                self._freshness.hear(zone, serial)


# Telling


def serve(observer: Observer, port: int) -> ThreadingHTTPServer:
    """The web server that tells it, on all addresses of both families where there are both."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/live":
                self._say(200 if observer.is_alive() else 503, [])
            elif self.path == "/ready":
                troubles = observer.verdict()
                self._say(503 if troubles else 200, troubles)
            else:
                self.send_error(404)

        def _say(self, code: int, lines: list[str]) -> None:
            body = ("\n".join(lines or ["ok"])[:4000] + "\n").encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - so it is called there
            """Probes come every two seconds; nobody reads that."""

    class DualStack(ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

        def server_bind(self) -> None:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    try:
        return DualStack(("::", port), Handler)
    except OSError:
        return ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104 - the kubelet asks the pod's address


def tell_serials(settings: Settings, ask: Callable[[str, str, bool], int] = ask) -> Iterator[str]:
    """For each zone a line: its name, its serial here and the newest at the primaries, "-" for what isn't told."""

    def serials(addresses: Iterable[str], zone: str) -> Iterator[int]:
        for address in addresses:
            with contextlib.suppress(TroubleError):
                yield ask(address, zone, False)

    for zone in settings.zones:
        here = next(serials(settings.pod_addresses, zone), "-")
        newest: int | None = None
        for serial in serials(settings.primaries, zone):
            newest = serial if newest is None or is_older(newest, serial) else newest
        yield f"{zone} {here} {'-' if newest is None else newest}"


def main() -> None:
    """Run as the process of a container, whose first process has to take its leave itself. With the word `serials`: tell them, once."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = settings_of(os.environ)
    if sys.argv[1:] == ["serials"]:
        for line in tell_serials(settings):
            print(line)
        return
    observer = Observer(settings)
    server = serve(observer, settings.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("asking for", *settings.zones, "on", *settings.service_addresses, file=sys.stderr)
    observer.run()


if __name__ == "__main__":
    main()
