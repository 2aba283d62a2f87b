"""Where and how a host is reached: what the user's own OpenSSH says (`ssh -G`), as frozen `Endpoint` values.

asyncssh's own reading of ssh_config is neither complete nor fast, so it is never used. Answers are cached until one of the
configuration files changes, and not for ever: a `Match exec` or a name in the DNS answers otherwise in another network. What is
read from known_hosts and identity files is not decided here.
"""

from __future__ import annotations

import asyncio
import getpass
import glob
import os
import re
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from anyconsole.drivers.ssh.argv import Hop, HopError, jump_chain, resolve_argv
from anyconsole.drivers.ssh.fault import Fault, SshError, plain
from anyconsole.model.inventory import Host, SshSpec

__all__ = ["Endpoint", "Resolver", "Stamp", "config_files", "endpoint_from", "parse_answer", "stamp_of"]

Stamp: TypeAlias = tuple[tuple[str, int, int], ...]
"""Names, change times (ns) and sizes of files: differs when one of them was changed, created, removed or made readable."""

Answer: TypeAlias = Mapping[str, Sequence[str]]
Run: TypeAlias = Callable[[Sequence[str]], Awaitable[str]]

SYSTEM_CONFIG: Final = Path("/etc/ssh/ssh_config")
MAX_HOPS: Final = 8
PROCESSES: Final = 4
ANSWER_KEPT: Final = 300.0
FAILURE_KEPT: Final = 20.0
DEADLINE: Final = 10.0


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A host as OpenSSH would log in to it. `via` are the jump hosts, outermost first; `agent` is a socket path or ""."""

    name: str
    host: str
    port: int = 22
    user: str = ""
    alias: str = ""
    via: tuple[Endpoint, ...] = ()
    proxy_command: str = ""
    known_hosts: tuple[str, ...] = ()
    identity_files: tuple[str, ...] = ()
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str = ""
    host_key_algorithms: tuple[str, ...] = ()
    family: int = socket.AF_UNSPEC

    @property
    def key_name(self) -> str:
        """The name its host key is filed under."""
        return self.alias or self.host.lower()

    @property
    def label(self) -> str:
        """Host and port as an operator reads them in an error, with the name it was asked by."""
        place = f"{self.host}:{self.port}"
        return place if self.name == self.host else f"{self.name} ({place})"


class Resolver:
    """Asks `ssh -G` once in a while per host and configuration, a few at a time."""

    def __init__(self, ssh: SshSpec, run: Run | None = None) -> None:
        self._ssh = ssh
        self._run = run or _run
        self._slots = asyncio.Semaphore(PROCESSES)
        self._answers: dict[tuple[Hop, bool], tuple[float, Answer | SshError]] = {}
        self._stamp: Stamp | None = None
        self._checked = 0.0

    async def resolve(self, host: Host) -> Endpoint:
        """The endpoint of a host.

        Raises:
            SshError: The name is not allowed, or `ssh -G` failed, timed out or describes an endless chain of jumps.
        """
        try:
            hop = Hop.parse(host.address, host.user or self._ssh.user)
            return await self._endpoint(hop, jump_chain(self._ssh, host), MAX_HOPS)
        except HopError as error:
            raise SshError(Fault.UNREACHABLE, str(error)) from error

    async def resolve_jump(self, name: str) -> Endpoint:
        """The endpoint of a jump host by itself, or of the last of a chain as `ssh -J` writes it. Raises SshError."""
        try:
            *before, last = (Hop.parse(hop, self._ssh.user) for hop in name.split(","))
            return await self._endpoint(last, tuple(before) or None, MAX_HOPS)
        except HopError as error:
            raise SshError(Fault.UNREACHABLE, str(error)) from error

    def stamp(self) -> Stamp:
        """What the configuration files look like now."""
        return stamp_of(config_files(self._ssh.config_file))

    async def _endpoint(self, hop: Hop, chain: tuple[Hop, ...] | None, hops_left: int) -> Endpoint:
        if not hops_left:
            raise SshError(
                Fault.UNREACHABLE, f"ssh -G {hop}: more than {MAX_HOPS} jump hosts, does one name itself in ProxyJump?"
            )
        answer = await self._ask(hop, no_jump=chain is not None)
        if chain is None:
            written = " ".join(answer.get("proxyjump", ()))
            chain = () if written.lower() in {"", "none"} else tuple(Hop.parse(jump) for jump in written.split(","))
        via: tuple[Endpoint, ...] = ()
        if chain:
            # The first hop is reached as the user's configuration says, each further one over the hop before it.
            last = await self._endpoint(chain[-1], chain[:-1] or None, hops_left - 1)
            via = (*last.via, last)
        return endpoint_from(hop, answer, via)

    async def _ask(self, hop: Hop, *, no_jump: bool) -> Answer:
        self._forget_if_changed()
        async with self._slots:
            until, answer = self._answers.get((hop, no_jump), (0.0, None))
            if answer is None or time.monotonic() >= until:
                kept = ANSWER_KEPT
                try:
                    answer = parse_answer(await self._run(resolve_argv(self._ssh, hop, no_jump=no_jump)))
                except SshError as error:
                    answer, kept = error, FAILURE_KEPT
                self._answers[hop, no_jump] = (time.monotonic() + kept, answer)
        if isinstance(answer, SshError):
            raise SshError(answer.fault, str(answer))
        return answer

    def _forget_if_changed(self) -> None:
        now = time.monotonic()
        if self._stamp is not None and now - self._checked < 1.0:
            return
        self._checked = now
        if (stamp := self.stamp()) != self._stamp:
            self._answers.clear()
            self._stamp = stamp


def parse_answer(text: str) -> dict[str, list[str]]:
    """The lines of `ssh -G`: keyword to its values in order."""
    answer: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        answer.setdefault(keyword.lower(), []).append(value)
    return answer


def endpoint_from(hop: Hop, answer: Answer, via: tuple[Endpoint, ...]) -> Endpoint:
    """What an answer of `ssh -G` means. Raises HopError if it names a host that must not reach a command line."""

    def one(keyword: str, default: str = "") -> str:
        return answer.get(keyword, (default,))[0]

    where = Hop.parse(f"[{one('hostname', hop.host)}]", one("user", hop.user))
    port = int(one("port", "22"))
    tokens = _tokens(hop.host, where.host, port, where.user)
    known_hosts = [p for k in ("userknownhostsfile", "globalknownhostsfile") for p in _paths(one(k), tokens)]
    command = one("proxycommand")
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    return Endpoint(
        name=hop.host,
        host=where.host,
        port=port,
        user=where.user,
        alias=one("hostkeyalias"),
        via=via,
        proxy_command="" if via or command == "none" else _expand(command, tokens),
        known_hosts=tuple(known_hosts),
        identity_files=tuple(_path(p, tokens) for p in answer.get("identityfile", ()) if p != "none"),
        certificate_files=tuple(_path(p, tokens) for p in answer.get("certificatefile", ()) if p != "none"),
        identities_only=one("identitiesonly") == "yes",
        agent=_agent(one("identityagent", "SSH_AUTH_SOCK"), tokens),
        host_key_algorithms=tuple(a for a in one("hostkeyalgorithms").split(",") if a),
        family=families.get(one("addressfamily"), socket.AF_UNSPEC),
    )


def config_files(config_file: str) -> tuple[str, ...]:
    """The ssh_config files in force: the profile's or the user's and the system's, and what they include."""
    found: dict[str, None] = {}
    user_folder = Path(_home("~/.ssh"))
    roots = [Path(_home(config_file))] if config_file else [user_folder / "config", SYSTEM_CONFIG]
    # -F disables the system's file, and relative names in a file given by -F are looked up in ~/.ssh.
    todo = [(root, root.parent if root == SYSTEM_CONFIG else user_folder, 0) for root in roots]
    while todo:
        path, folder, depth = todo.pop()
        if str(path) in found or depth > MAX_HOPS:
            continue
        found[str(path)] = None
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        for words in re.findall(r"(?im)^\s*include[\s=]+(.+)$", text):
            for word in words.split():
                included = os.path.join(folder, _home(word.strip('"')))  # noqa: PTH118 - an absolute name stays as it is
                # The folder too: a file that appears there later changes its time.
                found[os.path.dirname(included)] = None  # noqa: PTH120
                todo += [(Path(match), folder, depth + 1) for match in glob.glob(included)]  # noqa: PTH207 - takes any pattern
    return tuple(found)


def stamp_of(paths: Sequence[str]) -> Stamp:
    """The stamp of some files; one that can't be read counts as absent."""
    stamp = []
    for path in paths:
        try:
            state = os.stat(path)  # noqa: PTH116 - called for many files every two seconds, Path costs 3x
        except OSError:
            stamp.append((path, 0, -1))
        else:
            stamp.append((path, state.st_ctime_ns, state.st_size))
    return tuple(stamp)


async def _run(argv: Sequence[str]) -> str:
    what = f"ssh -G {argv[-1]}"
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SshError(Fault.UNREACHABLE, f"{what}: {error.strerror}; is openssh-client installed?") from error
    try:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
    except TimeoutError:
        raise SshError(Fault.TIMEOUT, f"{what}: no answer in {DEADLINE:.0f} s, is there a slow Match exec?") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                # The group: what a Match exec started must not outlive its ssh.
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        said = err.decode("utf-8", "replace")
        lines = [line for line in said.splitlines() if not line.startswith("Pseudo-terminal")]
        raise SshError(Fault.UNREACHABLE, plain(f"{what}: {'; '.join(lines)}; correct the ssh configuration"))
    return out.decode("utf-8", "replace")


def _tokens(name: str, host: str, port: int, user: str) -> dict[str, str]:
    node = socket.gethostname()
    try:
        local_user = getpass.getuser()
    except (KeyError, OSError):
        local_user = str(os.getuid())
    return {
        "%": "%", "d": _home("~"), "h": host, "i": str(os.getuid()), "k": name, "L": node.split(".")[0],
        "l": node, "n": name, "p": str(port), "r": user, "u": local_user,
    }  # fmt: skip


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)


def _path(text: str, tokens: Mapping[str, str]) -> str:
    return _home(_expand(text, tokens))


def _home(path: str) -> str:
    """The path with ~ replaced; unlike Path.expanduser it doesn't raise for a user that doesn't exist."""
    return os.path.expanduser(path)  # noqa: PTH111


def _paths(text: str, tokens: Mapping[str, str]) -> list[str]:
    """Several paths in one value. `ssh -G` prints them without quotes, so a name with spaces is found by looking."""
    words = [] if text in {"", "none", "/dev/null"} else text.split(" ")
    paths = []
    while words:
        count = next((n for n in range(len(words), 1, -1) if Path(_path(" ".join(words[:n]), tokens)).exists()), 1)
        paths.append(_path(" ".join(words[:count]), tokens))
        words = words[count:]
    return paths


def _agent(text: str, tokens: Mapping[str, str]) -> str:
    if text == "none":
        return ""
    if text == "SSH_AUTH_SOCK" or not text:
        return os.environ.get("SSH_AUTH_SOCK", "")
    if text.startswith("$"):
        return os.environ.get(text[1:].strip("{}"), "")
    return _path(text, tokens)
