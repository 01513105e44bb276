"""The C function that sends a burst to all viewers of a lane, where it was built (``media/native/fanout.c``).

Python decides who gets what and writes it into tables; the C function walks them with the GIL released.
`Table` is one group of Consumers, prepared when the group changes and used for every burst until then. What a
viewer is reached with (keys, address) stands in a row of its Leg that the Leg itself keeps true, so a
table never holds a pointer to keys that are gone.

The path in pure Python is ``forward`` itself; both produce the same bytes.
"""

import importlib
import os
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, Literal, get_args

from media.aio.aiortc_port import SRTP_TRAILER_BYTES, srtp_handle, srtp_protect_address
from media.aio.objects import Consumer, Leg
from media.core.congestion.pacer import Pacer
from media.core.congestion.sent import REMEMBERED, SentPackets
from media.core.ice import Address
from media.core.router import RUN_PACKETS, ExtensionPlan, Packet
from media.core.rtp import FIXED_HEADER_BYTES
from media.core.templates import extension_block, send_time, send_time_at

ForwardPath = Literal["auto", "c", "python"]
VARIABLE: Final = "CONSILIUM_FORWARD"
VERSION: Final = 11
"""``FAN_VERSION`` of the C function: raise both when what they share changes."""
HELD: Final = -1
"""Status of a run the C function was not to send."""
MAX_ROWS: Final = 256
"""Of one call; a longer burst is sent in several."""
_ROW: Final = Struct("=qIIHHHhHHhHh6x")


class ForwardUnavailable(Exception):
    """The path that was asked for cannot be used here; the text says why."""


def asked_path() -> ForwardPath:
    """What the environment asks for.

    Raises:
        ForwardUnavailable: for something there is not.
    """
    asked = os.environ.get(VARIABLE, "auto")
    for path in get_args(ForwardPath):
        if asked == path:
            return path  # type: ignore[no-any-return]
    raise ForwardUnavailable(f"{VARIABLE} is auto, c or python, not {asked}")


def load(path: ForwardPath) -> "FanOut | None":
    """The C function, or None for pure Python.

    Raises:
        ForwardUnavailable: ``c`` was asked for and is not there.
    """
    if path == "python":
        return None
    try:
        return FanOut()
    except ForwardUnavailable:
        if path == "c":
            raise
        return None


def describe(path: ForwardPath) -> str:
    """Which path is used and why, in words.

    Raises:
        ForwardUnavailable: ``c`` was asked for and is not there.
    """
    if path == "python":
        return f"pure Python, as {VARIABLE} asks"
    try:
        FanOut()
    except ForwardUnavailable as problem:
        if path == "c":
            raise
        return f"pure Python: {problem}"
    return "C function" + (f", as {VARIABLE} asks" if path == "c" else ", built at install")


class LegRow:
    """Where and with which keys a Leg is reached, as the C function reads it."""

    __slots__ = ("_ffi", "_lib", "_paced", "_rings", "cdata")

    def __init__(self, ffi: Any, lib: Any) -> None:
        self._ffi, self._lib = ffi, lib
        self.cdata: Any = ffi.new("fan_leg *")
        self._rings: list[Any] = []
        self._paced: Any = None

    def reach(self, address: Address | None) -> None:
        """The peer is there now; None or a TCP connection: not by UDP."""
        row = self.cdata
        row.address_bytes = 0
        if address is None or hasattr(address, "stream"):
            return
        host, port, *rest = address
        flow, scope = rest or (0, 0)
        self._lib.fan_address(row, host.partition("%")[0].encode(), port, flow, scope, len(rest) > 0)

    def use(self, context: Any) -> None:
        """Encrypt with this; None: nothing can be sent."""
        self.cdata.srtp = self._ffi.NULL if context is None else self._ffi.cast("void *", srtp_handle(context))

    def waits(self, something: bool) -> None:
        """Something waits for its line, or no more."""
        self.cdata.waits = something

    def pace(self, pacer: Pacer[Any] | None) -> None:
        """A large burst of pictures asks there; None: its line is not known."""
        self._paced = None if pacer is None else self._ffi.from_buffer("fan_pace *", pacer.purse)
        self.cdata.pace = self._paced or self._ffi.NULL

    def record(self, sent: SentPackets | None) -> None:
        """Count and write down there what leaves under transport-wide numbers; None: nowhere."""
        row = self.cdata
        row.next = self._ffi.NULL
        if sent is not None:
            # each holds its array, which does not grow as long as it is held
            rings = [self._ffi.from_buffer("int64_t *", ring) for ring in (sent.next, sent.send_us, sent.sizes)]
            row.next, row.send_us, row.sizes = rings
            row.remembered = REMEMBERED
            self._rings = rings


class Table:
    """One group of Consumers of a lane."""

    __slots__ = ("_counter_at", "_head", "_tail", "members", "plan", "pointers", "rows")

    def __init__(self, plan: ExtensionPlan, members: list[Consumer], rows: list[Any], pointers: Any) -> None:
        self.plan = plan
        self.members = members
        self.rows = rows
        """Owners of what ``pointers`` names."""
        self.pointers = pointers
        block, self._counter_at = extension_block((), plan, 0)
        stamp_at = send_time_at(plan)
        self._head, self._tail = block[:stamp_at], block[stamp_at + 3 :]

    def common(self, now_us: int) -> tuple[bytes, int]:
        """``extension_block`` of packets that bring no extensions."""
        if self.plan.abs_send_time_id:
            return self._head + send_time(now_us) + self._tail, self._counter_at
        return self._head + self._tail, self._counter_at


class FanOut:
    """The loaded C function and its buffers.

    Raises:
        ForwardUnavailable: it was not built, or does not fit this version.
    """

    def __init__(self) -> None:
        try:
            built: Any = importlib.import_module("media.native._fanout")
        except ImportError:
            raise ForwardUnavailable(
                "the C function was not built at install: no compiler or no Python headers"
            ) from None
        self.ffi: Any = built.ffi
        self.lib: Any = built.lib
        self.state: Any = self.ffi.new("fan_state *")
        if getattr(self.lib, "FAN_VERSION", 0) != VERSION:
            raise ForwardUnavailable("the C function is of another version; install the package again")
        room = RUN_PACKETS * (1500 + SRTP_TRAILER_BYTES)
        if (
            self.lib.FAN_RUN != RUN_PACKETS
            or self.ffi.sizeof("fan_row") != _ROW.size
            or self.ffi.sizeof(self.state.buffer) < room
        ):
            raise ForwardUnavailable("the C function is of another version; install the package again")
        self.state.protect = self.ffi.cast("fan_protect", srtp_protect_address())
        self.view = memoryview(self.ffi.buffer(self.state.buffer))
        self._out = self.lib.fan_out
        self._rows = bytearray(MAX_ROWS * _ROW.size)
        self._row_pointer: Any = self.ffi.from_buffer("fan_row *", self._rows)
        self._templates = b""
        self.sizes: list[int] = []
        """Bytes of each packet of the burst that was laid out."""
        self._call: tuple[Any, ...] = ()

    def prepare(self, plan: ExtensionPlan, group: Sequence[Consumer]) -> Table:
        """Write down a group of live Consumers and how each is numbered now."""
        members = list(group)
        rows = [self._row(consumer) for consumer in members]
        return Table(plan, members, rows, self.ffi.new("fan_viewer *[]", rows))

    def lay_out(self, table: Table, burst: Sequence[Packet], payload_type: int, now_us: int) -> int:
        """Write down a burst of at most ``MAX_ROWS`` packets for a group; its bytes.

        As ``media.core.templates.lay_out`` does, without the steps that one packet at a time does not need.
        """
        write, into, position, at = _ROW.pack_into, self._rows, 0, 0
        parts: list[bytes] = []
        self.sizes = sizes = []
        common = table.common(now_us)
        for packet in burst:
            payload, picture = packet.payload, packet.picture
            own = packet.extensions
            extensions, counter_at = extension_block(own, table.plan, now_us) if own else common
            parts.append(extensions)
            parts.append(payload)
            payload_bytes = len(payload)
            behind = len(extensions) + payload_bytes
            size = behind + FIXED_HEADER_BYTES
            sizes.append(size)
            word = (0x9000 if extensions else 0x8000) | packet.marker | payload_type
            number, timestamp = packet.number, packet.timestamp
            if picture is None:
                write(into, position, number, timestamp, at, size, word, payload_bytes, -1, 0, 0, -1, 0, counter_at)
            else:
                ahead = size - payload_bytes
                tl0_at = picture.tl0_at + ahead if picture.tl0_at >= 0 else -1
                write(
                    into, position, number, timestamp, at, size, word, payload_bytes,
                    picture.at + ahead, picture.number, picture.wide, tl0_at, picture.tl0 & 0xFF, counter_at,
                )  # fmt: skip
            at += behind
            position += _ROW.size
        self._templates = b"".join(parts)
        return at + FIXED_HEADER_BYTES * len(sizes)

    def begin(self, table: Table, now_us: int, fd: int) -> int:
        """Send what was laid out; 0, or why the run in ``view`` did not leave: ``HELD`` or an errno.

        Args:
            now_us: for the record of what was sent.
            fd: the socket; negative: every run is held.
        """
        state = self.state
        state.viewer = state.row = state.placed = 0
        state.now_us = now_us
        self._call = (self._templates, self._row_pointer, len(self.sizes), table.pointers, len(table.members))
        return self._out(state, fd, *self._call)  # type: ignore[no-any-return]

    def go_on(self, fd: int) -> int:
        """Continue behind the run that was handed back."""
        return self._out(self.state, fd, *self._call)  # type: ignore[no-any-return]

    def go_on_with(self, templates: Any, rows: Any, count: int, table: Table) -> None:
        """What `go_on` is to continue: a burst that the receive path laid out (``intake``)."""
        self._call = (templates, rows, count, table.pointers, len(table.members))

    def give_up(self) -> None:
        """Nothing more of this burst for the viewer whose run was handed back."""
        state = self.state
        state.viewer += 1
        state.row = state.placed = 0

    def _row(self, consumer: Consumer) -> Any:
        row = consumer.row
        if row is None:
            row = consumer.row = self.ffi.new("fan_viewer *")
            if consumer.plan.transport_cc_id and consumer.leg.sent is None:
                consumer.leg.sent = SentPackets()
            row.leg = self._leg_row(consumer.leg).cdata
            row.ssrc = consumer.ssrc
        now = consumer.numbers.now
        row.base, row.shift, row.timestamp_shift = now.base, now.shift, now.timestamp_shift & 0xFFFFFFFF
        row.picture_shift, row.tl0_shift = now.picture_shift, now.tl0_shift
        row.held = consumer.held
        return row

    def _leg_row(self, leg: Leg) -> Any:
        row = leg.row
        if row is None:
            row = LegRow(self.ffi, self.lib)
            leg.keep_row(row)
        return row
