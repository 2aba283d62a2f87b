"""The probe's hands: real sockets, files and processes of our own making."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyconsole.drivers.ask import Exchange, Get, Read, Reply, Run, Talk
from anyconsole.drivers.probe.transport import Transport


@contextlib.contextmanager
def serving(family: int, address: object, serve: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A listening socket whose connections are each given to `serve`."""
    with socket.socket(family) as listener:
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen(5)

        def loop() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield listener
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(2)


def ask(transport: Transport, what: Talk | Read | Run | Get, seconds: float = 1.0) -> Reply:
    (reply,) = transport.answer([what], time.monotonic() + seconds)
    return reply


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport()
    yield made
    made.close()


class FakeBird:
    """Greets, restricts, echoes; `heard` are the lines it got."""

    def __init__(self, restrict: bytes = b"0016 Access restricted\n", lines: int = 99) -> None:
        self.heard: list[bytes] = []
        self.connections = 0
        self.restrict = restrict
        self.lines = lines

    def __call__(self, connection: socket.socket) -> None:
        self.connections += 1
        connection.sendall(b"0001 BIRD 2.0.12 ready.\n")
        for _ in range(self.lines):
            line = connection.recv(1000)
            if not line:
                return
            self.heard.append(line)
            connection.sendall(self.restrict if line == b"restrict\n" else b"0023 " + line)


def test_bird_is_restricted_first_and_the_connection_is_kept(transport: Transport, tmp_path: Path) -> None:
    fake, path = FakeBird(), str(tmp_path / "s")
    with serving(socket.AF_UNIX, path, fake):
        replies = transport.answer([Talk(path, "bird", b"a\n"), Talk(path, "bird", b"b\n")], time.monotonic() + 1)
        assert [r.data for r in replies] == [b"0023 a\n", b"0023 b\n"]
        assert replies[0].pid == os.getpid()
        assert ask(transport, Talk(path, "bird", b"c\n")).data == b"0023 c\n"
        transport.close()
    assert fake.heard == [b"restrict\n", b"a\n", b"b\n", b"c\n"]
    assert fake.connections == 1


def test_bird_that_refuses_to_be_restricted_is_not_spoken_to(transport: Transport, tmp_path: Path) -> None:
    fake, path = FakeBird(restrict=b"9001 syntax error\n"), str(tmp_path / "s")
    with serving(socket.AF_UNIX, path, fake):
        reply = ask(transport, Talk(path, "bird", b"show status\n"))
    assert reply.fault == "failed"
    assert "refused" in reply.text
    assert fake.heard == [b"restrict\n"]


def test_restarted_daemon_is_reached_again_at_once(transport: Transport, tmp_path: Path) -> None:
    fake, path = FakeBird(lines=2), str(tmp_path / "s")
    with serving(socket.AF_UNIX, path, fake):
        assert ask(transport, Talk(path, "bird", b"a\n")).data == b"0023 a\n"
        assert ask(transport, Talk(path, "bird", b"b\n")).data == b"0023 b\n"
    assert fake.connections == 2


def test_daemon_that_never_answers_costs_its_deadline_and_not_more(transport: Transport, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        began = time.monotonic()
        reply = ask(transport, Talk(path, "bird", b"a\n"), 0.1)
        assert (reply.fault, time.monotonic() - began < 0.5) == ("timeout", True)
        # the rest of its batch is not waited for either
        replies = transport.answer([Talk(path, "nsd", b"x\n")] * 5, time.monotonic() + 0.1)
        assert {r.fault for r in replies} == {"timeout"}
        assert time.monotonic() - began < 0.8


def test_missing_and_abandoned_sockets_are_absent(transport: Transport, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert ask(transport, Talk(path, "nsd", b"x")) == Reply(
        fault="absent", text=f"talk to {path}: No such file or directory"
    )
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    assert ask(transport, Talk(path, "nsd", b"x")).fault == "absent"


def test_endless_reply_is_cut_off(transport: Transport, tmp_path: Path) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    path = str(tmp_path / "s")
    with serving(socket.AF_UNIX, path, flood):
        reply = ask(transport, Talk(path, "nsd", b"x"), 5)
    assert reply.fault == "failed"
    assert "longer than" in reply.text


def test_http_body_of_a_200_and_nothing_else(transport: Transport) -> None:
    answers = [b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n{}", b"HTTP/1.0 404 Not Found\r\n\r\nno", b"nonsense", b""]

    def serve(connection: socket.socket) -> None:
        assert connection.recv(1000).startswith(b"GET /json HTTP/1.0\r\nHost: 127.0.0.1:")
        connection.sendall(answers.pop(0))

    with serving(socket.AF_INET, ("127.0.0.1", 0), serve) as listener:
        what = Get("127.0.0.1", listener.getsockname()[1], "/json")
        assert ask(transport, what).data == b"{}"
        assert [ask(transport, what).fault for _ in range(3)] == ["failed"] * 3
    assert ask(transport, what).fault == "absent"


def test_files_are_read_up_to_their_limit(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    assert ask(transport, Read(str(tmp_path / "f"), 4)).data == b"0123"
    assert ask(transport, Read(str(tmp_path / "none"))).fault == "absent"
    os.mkfifo(tmp_path / "fifo")
    began = time.monotonic()
    ask(transport, Read(str(tmp_path / "fifo")))
    assert time.monotonic() - began < 0.5


def test_commands_run_without_a_shell_and_within_their_deadline(transport: Transport) -> None:
    assert ask(transport, Run(("echo", "$HOME;id"))).data == b"$HOME;id\n"
    failed = ask(transport, Run(("ls", "/nonexistent")))
    assert failed.fault == "failed"
    assert "exit status 2" in failed.text
    assert ask(transport, Run(("sleep", "9")), 0.2).fault == "timeout"
    assert ask(transport, Run(("no-such-command",))).fault == "absent"


def test_only_the_address_asked_with_the_id_asked_is_believed(transport: Transport) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger,
    ):
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        def serve() -> None:
            data, client = server.recvfrom(1000)
            forger.sendto(data[:2] + b"forged", client)
            server.sendto(bytes([data[0] ^ 1]) + data[1:2] + b"wrong id", client)
            server.sendto(data[:2] + b"answer", client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        (reply,) = transport.answer([Exchange("127.0.0.1", b"\0\0query", 1.0, port)], time.monotonic() + 1)
        thread.join(2)
    assert reply.data == b"\0\0answer"
    assert 0 < reply.elapsed < 1


def test_questions_wait_together_not_one_after_the_other(transport: Transport) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        began = time.monotonic()
        replies = transport.answer([Exchange("127.0.0.1", b"\0\0q", 0.2, port)] * 10, began + 1)
        assert {r.fault for r in replies} == {"timeout"}
        assert time.monotonic() - began < 0.6
    assert transport.answer([Exchange("127.0.0.1", b"\0\0q", 0.2, port)], time.monotonic() + 1)[0].fault == "absent"
