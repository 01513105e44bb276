"""Frames of the lock's one WebSocket: msgpack arrays, checked field by field (LOCK_PROTOCOL.md).

A frame is ``[number, field, ...]`` in the order of its class. Decoding raises `WireError` and
nothing else whatever the bytes, and never allocates beyond the frame it was given. A body larger than
``PART_BYTES`` follows its header in parts, so that a question of a doctor never waits behind a long document.

The order in which frames may come is `link.py`; what is signed is `proof.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import msgpack

from server.gateway.core.crossing import (
    MAX_ABOUT,
    MAX_BODY_BYTES,
    MAX_KEY_CHARS,
    MAX_KIND_CHARS,
    MAX_PATIENT_IDENTIFIERS,
    Crossing,
)

VERSION = 1
PATH = "/ws/lock"
PART_BYTES = 64 * 1024
FRAME_BYTES = 160 * 1024
"""Bound of one WebSocket message: a part, and the longest envelope there can be, each letter in four bytes. [LK3]"""
MAX_PARAMS = 16
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_TEXT = 2_000
MARK_BYTES = 32
GENESIS = bytes(MARK_BYTES)
OUTCOME_KIND = "LOCK outcome"
OPERATOR_KIND = "LOCK operator"
OUTCOME_SOURCE = "lock"
"""The gateway's own source: what became of what the hub sent [LK18], and what the hospital's operator did with a
crossing by hand [LK23]. No adapter may have this name."""
FORMER = "former-gateway"
"""Name in a crossing's ``about``: the gateway that this machine was before it enrolled again, which may have sent the
crossing without hearing what became of it. [LK1]"""
MAX_FORMERS = 4
OPERATOR_REASONS = ("wrong_patient", "duplicate", "obsolete", "corrected", "test", "mended", "other")
"""Why an operator sent again or gave up: words of a list, since what somebody types may name a patient (G8)."""
PATIENT_INCOMPLETE = "patient_incomplete"
"""A refusal: the record does not know the patient yet, and the message says too little of who it is (W18). [LK25]"""

Pairs: TypeAlias = tuple[tuple[str, str], ...]


class WireError(Exception):
    """The other end sent what the protocol does not allow; the connection ends. [LK4]

    ``reason`` names the place and never repeats content.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """First frame, by the gateway. [LK5]"""

    versions: tuple[int, ...]
    gateway: str
    instance: str
    """Random for each run of the program: tells a reconnect from a second gateway."""
    origin: str
    """The hub's address as the gateway dials it."""
    stream: str
    """The journal's numbering; another journal is another stream."""
    last: int
    """Highest number given in this stream."""
    settled: int
    """The gateway knows what became of everything up to here."""
    nonce: bytes
    now_us: int
    policy: str
    """Fingerprint of the policy in force, for the hub's log."""
    software: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """The hub's answer: it proves which hub it is and asks for proof. [LK6]"""

    version: int
    nonce: bytes
    now_us: int
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """The gateway's signature over everything said so far, and how far it has the hub's numbers. [LK7]"""

    up_to: int
    mark: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    """Let in. ``up_to`` and ``mark``: what the hub has of the stream, durably. [LK8]"""

    connection: int
    up_to: int
    mark: bytes
    window_count: int
    window_bytes: int
    inward_reset: bool
    """The hub does not know the mark the gateway gave: the hub's numbers begin again at 1. [LK9]"""
    now_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cross:
    """One crossing, or its beginning when ``body`` is shorter than ``size``. [LK10]"""

    sequence: int
    source: str
    kind: str
    key: str
    patient: Pairs
    about: Pairs
    media_type: str
    made_us: int
    received_us: int
    journaled_us: int
    sent_us: int
    size: int
    digest: bytes
    mark: bytes
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """More of the crossing that was begun last. [LK10]"""

    sequence: int
    offset: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Numbers whose content cannot be sent any more, said out loud. ``mark`` is that of ``last``. [LK14]

    At most ``MAX_ITEMS`` numbers: each of them is acknowledged.
    """

    first: int
    last: int
    code: str
    mark: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Ack:
    """What became of the next numbers, after the commit. Items: (verdict, code, received_us, committed_us). [LK12]"""

    first: int
    items: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A question of a consult's participant, by the hub. [LK20]"""

    id: int
    consult: str
    patient: Pairs
    type: str
    resource_id: str
    """Empty: a search."""
    params: Pairs
    page: str
    role: str
    organisation: str
    purpose: str
    timeout_ms: int
    max_bytes: int
    max_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer, or its beginning; ``code`` is empty, or why there is none. [LK21]"""

    id: int
    code: str
    count: int
    next_page: str
    size: int
    digest: bytes
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerPart:
    """More of an answer. [LK21]"""

    id: int
    offset: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """The hub wants no answer any more. [LK22]"""

    id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ping:
    """Are you there; ``at_us`` is the sender's clock. [LK15]"""

    at_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pong:
    """``at_us`` repeated, and the answerer's clock. [LK15]"""

    at_us: int
    now_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Bye:
    """The connection ends, and why. [LK16]"""

    code: str
    reason: str


Frame: TypeAlias = (
    Hello
    | Challenge
    | Proof
    | Welcome
    | Cross
    | Part
    | Gap
    | Ack
    | Ask
    | Answer
    | AnswerPart
    | Cancel
    | Ping
    | Pong
    | Bye
)

Check: TypeAlias = Callable[[Any], Any]


def _number(low: int = 0, high: int = 2**63 - 1) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return check


def _text(most: int, least: int = 0) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or not least <= len(value) <= most or not (value.isprintable() or value == ""):
            raise ValueError
        return value

    return check


def _octets(most: int, least: int = 0) -> Check:
    def check(value: Any) -> bytes:
        if type(value) is not bytes or not least <= len(value) <= most:
            raise ValueError
        return value

    return check


def _each(check_one: Check, most: int, least: int = 0) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or not least <= len(value) <= most:
            raise ValueError
        return tuple(check_one(one) for one in value)

    return check


def _row(*checks: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError
        return tuple(one(part) for one, part in zip(checks, value, strict=True))

    return check


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


_ID = _text(64, 1)
_WORD = _text(64)
_NUMBER = _number()
_NONCE = _octets(32, 32)
_SIGNATURE = _octets(64, 64)
_MARK = _octets(MARK_BYTES, MARK_BYTES)
_DIGEST = _octets(32, 32)
_PAIR = _row(_text(MAX_KEY_CHARS), _text(MAX_KEY_CHARS, 1))
_IDENTIFIERS = _each(_PAIR, MAX_PATIENT_IDENTIFIERS)

MAX_ITEMS = 256

_FRAMES: tuple[tuple[type[Any], dict[str, Check]], ...] = (
    (
        Hello,
        {
            "versions": _each(_number(1, 255), 8, 1),
            "gateway": _ID,
            "instance": _ID,
            "origin": _text(300, 1),
            "stream": _ID,
            "last": _NUMBER,
            "settled": _NUMBER,
            "nonce": _NONCE,
            "now_us": _NUMBER,
            "policy": _WORD,
            "software": _WORD,
        },
    ),
    (Challenge, {"version": _number(1, 255), "nonce": _NONCE, "now_us": _NUMBER, "signature": _SIGNATURE}),
    (Proof, {"up_to": _NUMBER, "mark": _MARK, "signature": _SIGNATURE}),
    (
        Welcome,
        {
            "connection": _NUMBER,
            "up_to": _NUMBER,
            "mark": _MARK,
            "window_count": _number(1, 4096),
            "window_bytes": _number(PART_BYTES, 2**31),
            "inward_reset": _flag,
            "now_us": _NUMBER,
        },
    ),
    (
        Cross,
        {
            "sequence": _number(1),
            "source": _ID,
            "kind": _text(MAX_KIND_CHARS, 1),
            "key": _text(MAX_KEY_CHARS, 1),
            "patient": _IDENTIFIERS,
            "about": _each(_PAIR, MAX_ABOUT + MAX_FORMERS),
            "media_type": _text(MAX_KIND_CHARS, 1),
            "made_us": _NUMBER,
            "received_us": _NUMBER,
            "journaled_us": _NUMBER,
            "sent_us": _NUMBER,
            "size": _number(1, MAX_BODY_BYTES),
            "digest": _DIGEST,
            "mark": _MARK,
            "body": _octets(PART_BYTES, 1),
        },
    ),
    (Part, {"sequence": _number(1), "offset": _NUMBER, "data": _octets(PART_BYTES, 1)}),
    (Gap, {"first": _number(1), "last": _number(1), "code": _ID, "mark": _MARK}),
    (Ack, {"first": _number(1), "items": _each(_row(_ID, _WORD, _NUMBER, _NUMBER), MAX_ITEMS, 1)}),
    (
        Ask,
        {
            "id": _NUMBER,
            "consult": _ID,
            "patient": _each(_PAIR, MAX_PATIENT_IDENTIFIERS, 1),
            "type": _ID,
            "resource_id": _WORD,
            "params": _each(_row(_ID, _text(MAX_KEY_CHARS)), MAX_PARAMS),
            "page": _text(MAX_TEXT),
            "role": _ID,
            "organisation": _ID,
            "purpose": _ID,
            "timeout_ms": _number(1, 60_000),
            "max_bytes": _number(1, MAX_ANSWER_BYTES),
            "max_count": _number(1, 1_000),
        },
    ),
    (
        Answer,
        {
            "id": _NUMBER,
            "code": _WORD,
            "count": _NUMBER,
            "next_page": _text(MAX_TEXT),
            "size": _number(0, MAX_ANSWER_BYTES),
            "digest": _octets(32),
            "body": _octets(PART_BYTES),
        },
    ),
    (AnswerPart, {"id": _NUMBER, "offset": _NUMBER, "data": _octets(PART_BYTES, 1)}),
    (Cancel, {"id": _NUMBER}),
    (Ping, {"at_us": _NUMBER}),
    (Pong, {"at_us": _NUMBER, "now_us": _NUMBER}),
    (Bye, {"code": _ID, "reason": _text(300)}),
)

_NUMBERS: dict[type[Any], int] = {cls: number for number, (cls, _checks) in enumerate(_FRAMES)}
_NAMES: dict[type[Any], tuple[str, ...]] = {cls: tuple(one.name for one in fields(cls)) for cls, _checks in _FRAMES}
assert all(tuple(checks) == _NAMES[cls] for cls, checks in _FRAMES), "the checks are in the order of the fields"


def encode(frame: Frame) -> bytes:
    """One WebSocket message."""
    cls = type(frame)
    packed: bytes = msgpack.packb([_NUMBERS[cls], *(getattr(frame, name) for name in _NAMES[cls])])
    assert len(packed) <= FRAME_BYTES, "bodies are cut into parts"
    return packed


def decode(data: bytes) -> Frame:
    """One frame.

    Raises:
        WireError: not one, whatever the bytes. [LK4]
    """
    if len(data) > FRAME_BYTES:
        raise WireError("frame too large")
    try:
        raw = msgpack.unpackb(data, strict_map_key=True)
    except Exception:  # the decoder documents no closed list of what it raises on hostile bytes
        raise WireError("not msgpack") from None
    if type(raw) is not list or not raw or type(raw[0]) is not int or not 0 <= raw[0] < len(_FRAMES):
        raise WireError("unknown frame")
    cls, checks = _FRAMES[raw[0]]
    if len(raw) != len(checks) + 1:
        raise WireError(f"{cls.__name__}: wrong number of fields")
    values: dict[str, Any] = {}
    for (name, check), value in zip(checks.items(), raw[1:], strict=True):
        try:
            values[name] = check(value)
        except ValueError:
            raise WireError(f"{cls.__name__}.{name}") from None
    frame: Frame = cls(**values)
    return frame


def crossing_of(frame: Cross, body: bytes) -> Crossing:
    """What a whole `Cross` carried."""
    return Crossing(
        kind=frame.kind,
        key=frame.key,
        patient=frame.patient,
        media_type=frame.media_type,
        body=body,
        made_us=frame.made_us,
        about=tuple(pair for pair in frame.about if pair[0] != FORMER),
    )


def formers_of(frame: Cross) -> tuple[str, ...]:
    """Gateways as which the sender may have sent it before. [LK1]"""
    return tuple(value for name, value in frame.about if name == FORMER)
