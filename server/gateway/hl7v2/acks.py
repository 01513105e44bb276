"""ACK: what the sender is told (HL7 v2 chapter 2.9, 2.10, 2.15).

Original mode: one AA, AE or AR after the message is durable. Enhanced mode (MSH-15 or MSH-16 say something): CA, CE or
CR for having taken it, as MSH-15 asks, and AA, AE or AR for its content, as MSH-16 asks.

AR and CR are final: the same bytes will never be taken. AE and CE ask for a repeat (queue full, disk full): most
engines repeat AE and stop at AR.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.gateway.hl7v2.charset import codec_of
from server.gateway.hl7v2.convert import Header, header_of
from server.gateway.hl7v2.errors import Hl7Refused
from server.gateway.hl7v2.message import STANDARD, Delimiters, Message, parse
from server.gateway.hl7v2.times import format_dtm

_HEADER_BYTES: Final = 4096
_WANTED: Final = {
    "AL": (True, True),
    "": (False, False),
    "NE": (False, False),
    "SU": (True, False),
    "ER": (False, True),
}
"""0155: whether to acknowledge (success, error). In enhanced mode an empty field is NE."""


class Ack(StrEnum):
    """0008."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyTo:
    """Where an answer goes and how it is written; known even where the message itself is unusable."""

    sender: tuple[str, str] = ("", "")
    """MSH-3 and MSH-4 as sent."""
    receiver: tuple[str, str] = ("", "")
    header: Header | None = None
    charset: str = ""
    delimiters: Delimiters = STANDARD


def reply_to(message: Message) -> ReplyTo:
    """From a message that could be parsed."""
    msh = message.msh
    return ReplyTo(
        sender=(msh.raw(3), msh.raw(4)),
        receiver=(msh.raw(5), msh.raw(6)),
        header=header_of(message),
        charset=message.charset,
        delimiters=message.delimiters,
    )


def reply_to_bytes(head: bytes) -> ReplyTo:
    """From whatever can be read of a header, for a NAK: a sender matches it by MSH-10. Never raises."""
    line = re.split(rb"[\r\n]", head[:_HEADER_BYTES].removeprefix(b"\xef\xbb\xbf").strip(), maxsplit=1)[0]
    text = line.decode("ascii", "replace")
    if not text.startswith("MSH") or len(text) < 9:
        return ReplyTo()
    fields = [*text.split(text[3]), *[""] * 18]
    if not re.fullmatch(r"[\x21-\x7e]{1,199}", fields[9]):
        fields[9] = ""
    kind = [*fields[8].split(fields[1][:1] or "^"), ""]
    header = Header(
        control_id=fields[9], type=_plain(kind[0]), event=_plain(kind[1]), processing_id=_plain(fields[10][:1]),
        version=_plain(fields[11])[:8], accept_ack="", application_ack="",
    )  # fmt: skip
    return ReplyTo(header=header)


def _plain(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_.]{1,20}", text) else ""


def _one_line(raw: str) -> str:
    return "".join(sign for sign in raw if sign.isprintable())


def replies(to: ReplyTo, problem: Hl7Refused | None, *, now: datetime, ids: Iterator[str]) -> list[bytes]:
    """The acknowledgements of one message, in order; none where the sender wants none.

    Args:
        problem: why it was not taken, None when it is durable.
        ids: control ids that are ours alone.
    """
    header = to.header
    worst = Ack.AA if problem is None else Ack.AE if problem.again else Ack.AR
    if header is None or not header.enhanced:
        return [_ack(to, worst, problem, now, next(ids))]
    at = 0 if problem is None else 1
    found = []
    if _WANTED.get(header.accept_ack, (True, True))[at]:
        found.append(_ack(to, Ack(f"C{worst.value[1]}"), problem, now, next(ids)))
    if _WANTED.get(header.application_ack, (True, True))[at]:
        found.append(_ack(to, worst, problem, now, next(ids)))
    return found


def _ack(to: ReplyTo, code: Ack, problem: Hl7Refused | None, now: datetime, control_id: str) -> bytes:
    d, header = to.delimiters, to.header
    # Unescaped, what the sender wrote could hold delimiters: only plain words go back.
    event = _plain(header.event) if header is not None else ""
    kind = d.component.join(["ACK", event, "ACK"]) if event else "ACK"
    version = (_plain(header.version) if header is not None else "") or "2.5"
    names = [_one_line(part) for part in (*to.receiver, *to.sender)]
    msh = ["MSH", d.msh2, *names, format_dtm(now), "", kind, control_id]
    msh += [(_plain(header.processing_id) if header else "") or "P", version, "", "", "", "", "", to.charset]
    lines = [msh, ["MSA", code.value, _one_line(header.control_id) if header else ""]]
    if problem is not None:
        lines[1].append(problem.code.value)
        lines.append(_err(problem, d, version))
    text = "\r".join(d.field.join(fields).rstrip(d.field) for fields in lines) + "\r"
    return text.encode(codec_of(to.charset) or "ascii", "replace")


def _err(problem: Hl7Refused, d: Delimiters, version: str) -> list[str]:
    """ERR: where, what (0357), how bad; since 2.5 with our own code and a sentence, before that in one field."""
    segment, _, rest = problem.place.partition("-")
    number, _, component = rest.partition(".")
    location = d.component.join(
        part for part in (segment, "1" if segment else "", number, "1" if component else "", component) if part
    )
    if version in ("2.1", "2.2", "2.3", "2.3.1", "2.4"):
        return ["ERR", d.component.join((segment, "1", number, problem.condition.value))]
    coded = d.component.join((problem.condition.value, problem.code.value, "HL70357"))
    return ["ERR", "", location, coded, "E", "", "", "", problem.en]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the hospital's system says of a message that was sent to it."""

    code: Ack
    control_id: str
    """MSA-2: the message it is about."""
    text: str
    """MSA-3 or ERR-3, for the operator."""


def answer_in(data: bytes, *, default_charset: str) -> Answer | None:
    """What an acknowledgement says, None where it is none.

    Its words may be in another charset than it declares; that the message was taken is said in ASCII and counts.
    """
    try:
        return answer_of(parse(data, default_charset=default_charset))
    except Hl7Refused:
        lines = [line for line in re.split(r"[\r\n]+", data.decode("ascii", "replace")) if line]
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 4:
        return None
    separator = lines[0][3]
    msa = next(([*line.split(separator), "", ""] for line in lines if line.startswith(f"MSA{separator}")), None)
    code = msa[1].strip().upper() if msa is not None else ""
    if msa is None or code not in set(Ack):
        return None
    return Answer(code=Ack(code), control_id=msa[2].strip(), text="")


def answer_of(message: Message) -> Answer | None:
    """MSA of a message, None when it has none or an unknown code."""
    msa = message.first("MSA")
    if msa is None:
        return None
    code = msa.v(1).upper()
    err = message.first("ERR")
    text = msa.v(3) or (err.v(3, 2) or err.v(3) if err is not None else "")
    return Answer(code=Ack(code), control_id=msa.raw(2).strip(), text=text[:200]) if code in set(Ack) else None
