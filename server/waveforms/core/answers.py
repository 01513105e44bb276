"""What a viewer on a WebSocket is answered: the rules of the relay's ``ctl`` (WAVEFORM_WIRE.md section 5).

Pure: what is kept comes in as a lookup. One `Asker` a viewer counts its budgets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from media.core.waveform.hub import (
    CONTROL_BURST,
    CONTROL_PER_S,
    MAX_CONTROL_BYTES,
    MAX_NACK_SPAN,
    REORDER_FRAMES,
    RESEND_BURST,
    RESEND_PER_S,
)
from signaling.core.bucket import TokenBucket

_U32: Final = 2**32 - 1


class ControlRefused(Exception):
    """A control message that is not answered; its text is the name of a counter."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A clock question."""

    client_us: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Frames somebody lacks: of a range, or (``last`` None) everything after ``first - 1``."""

    stream_id: int
    first: int
    last: int | None


class Asker:
    """One viewer's budgets, the same as at the relay."""

    def __init__(self) -> None:
        self._control = TokenBucket(CONTROL_PER_S, int(CONTROL_BURST))
        self._resend = TokenBucket(RESEND_PER_S, int(RESEND_BURST))

    def read(self, message: bytes, now_s: float) -> Ping | Wanted:
        """Check a control message.

        Raises:
            ControlRefused: malformed or too many; nothing else, whatever the bytes.
        """
        if not self._control.take(now_s):
            raise ControlRefused("control_rate")
        fields = _map(message)
        match fields.get("t"):
            case "ping":
                client_us = fields.get("c")
                if type(client_us) is not int or not -(2**63) <= client_us < 2**63:
                    raise ControlRefused("control_malformed")
                return Ping(client_us)
            case "nack":
                stream, first, last = (_u32(fields, name) for name in ("stream", "first", "last"))
                if not first <= last < first + MAX_NACK_SPAN:
                    raise ControlRefused("control_malformed")
                return Wanted(stream, first, last)
            case "have":
                return Wanted(_u32(fields, "stream"), _u32(fields, "seq") + 1, None)
            case _:
                raise ControlRefused("control_malformed")

    def answer(
        self, wanted: Wanted, kept: Mapping[int, bytes], newest: int, now_s: float
    ) -> tuple[list[bytes], list[tuple[int, int]]]:
        """What to send again, oldest first, and the ranges that will never come.

        Args:
            kept: frames by number, of the newest epoch.
            newest: number of the newest frame.
        """
        first, last = wanted.first, newest if wanted.last is None else wanted.last
        gone: list[tuple[int, int]] = []
        if wanted.last is None and newest - first >= MAX_NACK_SPAN:
            oldest = newest - MAX_NACK_SPAN + 1
            gone.append((first, oldest - 1))
            first = oldest
        frames: list[bytes] = []
        for seq in range(first, last + 1):
            frame = kept.get(seq)
            if frame is not None:
                if not self._resend.take(now_s):
                    break
                frames.append(frame)
            elif seq <= newest - REORDER_FRAMES:
                if gone and gone[-1][1] == seq - 1:
                    gone[-1] = (gone[-1][0], seq)
                else:
                    gone.append((seq, seq))
        return frames, gone


def pong(ping: Ping, now_us: int) -> bytes:
    """The answer to a clock question."""
    return msgpack.packb({"t": "pong", "c": ping.client_us, "s": now_us})  # type: ignore[no-any-return]


def gone_map(stream_id: int, first: int, last: int) -> bytes:
    """These will never come."""
    return msgpack.packb({"t": "gone", "stream": stream_id, "first": first, "last": last})  # type: ignore[no-any-return]


def _map(message: bytes) -> dict[str, Any]:
    if len(message) > MAX_CONTROL_BYTES:
        raise ControlRefused("control_malformed")
    try:
        decoded = msgpack.unpackb(message)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ControlRefused("control_malformed") from None
    if not isinstance(decoded, dict):
        raise ControlRefused("control_malformed")
    return decoded


def _u32(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= _U32:
        raise ControlRefused("control_malformed")
    return value
