"""What the engine and a load agent say to each other: JSON lines, decoded into typed values or a named error. Pure.

The agent's host is not trusted: lines are bounded, numbers are non-negative, and what doesn't fit ends the conversation.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias

import msgspec

from anyconsole.model.load import Counts, Latency, Transport

__all__ = [
    "MAX_LINE",
    "Failure",
    "Hello",
    "Lines",
    "Message",
    "MessageError",
    "Ready",
    "Second",
    "Setup",
    "Tick",
    "TrialEnd",
    "command",
    "decode",
]

MAX_LINE: Final = 1 << 18

_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=300)]


class MessageError(ValueError):
    """Something that no agent says; the message quotes it."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """All that an agent is told once: its target and its limits, which it enforces itself whatever it is told later.

    `max_rate` is queries/s, `max_seconds` the sum over all trials, `timeout` seconds after which an answer is late. `flows` are UDP
    sockets, which take the `sources` (local addresses; the system's choice if none) in turn; `processes` 0 means one a core. One query in
    `nsid_every` asks for the NSID (0: none). `bufsize` 0 is without EDNS. `plain` does without sendmmsg and recvmmsg. Our own agent
    knows no `transport` but UDP. `interface` is the one that kxdpgun may take, if it carries no address of the prefixes `services`.
    """

    address: str
    max_rate: float
    max_seconds: float
    port: int = 53
    timeout: float = 0.5
    sources: tuple[str, ...] = ()
    flows: int = 200
    processes: int = 1
    bufsize: int = 1232
    dnssec: bool = False
    nsid_every: int = 100
    plain: bool = False
    transport: Transport = Transport.UDP
    interface: str = ""
    services: tuple[str, ...] = ()


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """`Counts` as they come over the line."""

    offered: _Number = 0
    sent: _Number = 0
    answered: _Number = 0
    late: _Number = 0
    truncated: _Number = 0
    stray: _Number = 0
    skipped: _Number = 0
    receive_errors: _Number = 0
    rcodes: dict[_Number, _Number] = {}
    identities: dict[_Text, _Number] = {}
    latency: _ToldLatency | None = None

    def counts(self) -> Counts:
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "latency"}
        return Counts(**fields, latency=Latency(bins=self.latency.bins if self.latency else {}))


class _ToldLatency(msgspec.Struct, frozen=True):
    bins: dict[Annotated[int, msgspec.Meta(ge=0, le=1000)], _Number] = {}


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="ev"):
    """A line from an agent."""


class Hello(_Event, frozen=True, kw_only=True, tag="hello"):
    """The agent runs. `engine` is the program that will make the queries, with its version; "" is the agent itself.

    Our own agent also tells its host's `kernel` and `cpu_model`, "" where that isn't known.
    """

    AGENT: ClassVar[int] = 1

    agent: int
    python: _Text
    cores: _Number
    engine: _Text = ""
    kernel: _Text = ""
    cpu_model: _Text = ""


class Ready(_Event, frozen=True, kw_only=True, tag="ready"):
    """Its sockets are open, its queries encoded. `batched` says that it sends and receives many packets a system call."""

    batched: bool
    flows: _Number
    processes: Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Tick(_Event, frozen=True, kw_only=True, tag="tick"):
    """What happened since the last tick, up to `at` seconds into the counted part of a trial; five a second. Identities come by second."""

    trial: _Number
    at: float
    told: _Told = msgspec.field(name="counts")

    @property
    def counts(self) -> Counts:
        """Its counts; answers by when they came."""
        return self.told.counts()


class Second(_Event, frozen=True, kw_only=True, tag="second"):
    """What became of the queries sent in one second (0 is the first)."""

    trial: _Number
    second: _Number
    told: _Told = msgspec.field(name="counts")

    @property
    def counts(self) -> Counts:
        """Its counts."""
        return self.told.counts()


class TrialEnd(_Event, frozen=True, kw_only=True, tag="trial"):
    """A trial is over. `counts` are what came after its second had been told; `stopped` is "", "stop" or "heartbeat".

    `elapsed` is all the time that it took, `ran` the seconds of it that count: fewer than were ordered if it was stopped. `unsendable`
    is what the system said when a query couldn't be sent, "" otherwise. A `whole` trial has no seconds that could be told apart: all its
    counts are here. `void` is why it says nothing about the target, "" if the counts are to tell.
    """

    trial: _Number
    cpu: _Seconds
    elapsed: _Seconds
    ran: _Seconds
    processes: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    stopped: _Text = ""
    unsendable: _Text = ""
    whole: bool = False
    void: _Text = ""
    told: _Told = msgspec.field(name="counts")

    @classmethod
    def unbegun(cls, trial: int) -> Self:
        """Of a trial that nobody was told to begin."""
        return cls(trial=trial, cpu=0.0, elapsed=0.0, ran=0.0, processes=1, stopped="stop", told=_Told())

    @property
    def counts(self) -> Counts:
        """Late and stray answers that belong to no second."""
        return self.told.counts()


class Failure(_Event, frozen=True, kw_only=True, tag="error"):
    """The agent refuses a command, or can't go on."""

    why: str


Message: TypeAlias = Hello | Ready | Tick | Second | TrialEnd | Failure

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def decode(line: bytes) -> Message:
    """One line from an agent. Raises MessageError."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MessageError(f"{line[:80]!r}: {error}") from error


def command(operation: str, **arguments: Any) -> bytes:  # noqa: ANN401 - whatever JSON can say
    """One line to an agent."""
    return msgspec.json.encode({"op": operation, **arguments}) + b"\n"


class Lines:
    """Pieces of a stream in, whole lines out."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._unread = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. Raises MessageError if one becomes too long."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        if max(map(len, (*lines, self._unread))) > self._limit:
            raise MessageError(f"a line of more than {self._limit} bytes")
        return lines
