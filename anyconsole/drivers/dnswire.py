"""DNS messages on the engine's side: the questions nodes and vantage points ask, and what the raw answers mean (dnspython)."""

from __future__ import annotations

import functools

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import msgspec

from anyconsole.drivers.parse_error import ParseError, printable

__all__ = ["SoaAnswer", "parse_answer", "soa_query"]


class SoaAnswer(msgspec.Struct, frozen=True):
    """What a SOA question was answered with; `error` says why an answer that came is of no use."""

    rcode: str
    serial: int | None
    nsid: str
    error: str


@functools.lru_cache(maxsize=4096)
def soa_query(zone: str) -> bytes:
    """A SOA question for `zone` with EDNS and NSID, ID 0, recursion not desired. Raises ValueError for a name that isn't one."""
    try:
        name = dns.name.from_text(zone)
        message = dns.message.make_query(
            name, "SOA", use_edns=0, payload=1232, options=[dns.edns.NSIDOption(b"")], id=0
        )
    except dns.exception.DNSException as error:
        raise ValueError(f"not a zone: {zone!r} ({error})") from error
    message.flags &= ~dns.flags.RD
    return message.to_wire()


def parse_answer(reply: bytes, zone: str) -> SoaAnswer:
    """What an answer to `soa_query(zone)` says.

    Raises:
        ParseError: not a DNS message, not a response, or a response to another question.
    """
    try:
        message = dns.message.from_wire(reply, ignore_trailing=True)
        wanted = dns.name.from_text(zone)
    except (dns.exception.DNSException, ValueError) as error:
        raise ParseError(f"answer for {zone} is no DNS message ({type(error).__name__})", reply[:32].hex()) from error
    if not message.flags & dns.flags.QR:
        raise ParseError(f"answer for {zone} is not a response", reply[:32].hex())
    if message.question and message.question[0].name != wanted:
        raise ParseError(f"answer for {zone} is about something else", str(message.question[0].name))
    serial = None
    for rrset in message.answer:
        if rrset.rdtype == dns.rdatatype.SOA and rrset.name == wanted:
            serial = int(rrset[0].serial)
    rcode = dns.rcode.to_text(message.rcode())
    useless = ""
    if rcode == "NOERROR":
        if serial is None:
            useless = "no SOA in the answer"
        elif not message.flags & dns.flags.AA:
            useless = "not authoritative"
    nsid = next((o.nsid for o in message.options if isinstance(o, dns.edns.NSIDOption)), b"")
    return SoaAnswer(rcode, serial, _nsid_text(nsid), useless)


def _nsid_text(nsid: bytes) -> str:
    try:
        text = nsid.decode("ascii")
    except UnicodeDecodeError:
        return nsid.hex()[:128]
    return printable(text, 128) if text.isprintable() else nsid.hex()[:128]
