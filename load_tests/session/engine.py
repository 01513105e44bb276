"""The thread in C that plays a generator's media, where it was built (``native``), and its Python side.

All Transports of a process share one `Engine`. It owns their sockets' reading and writing; what is no media comes
back here and goes on to its Transport under asyncio. What it counts is added to the ledger when a report is due.
``CONSILIUM_GENERATOR=auto|c|python`` says whether it is used.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from pylibsrtp import _binding

from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.session.path import Path

VARIABLE: Final = "CONSILIUM_GENERATOR"
VERSION: Final = 5
"""``GEN_VERSION`` of the C side."""
ROOM_BYTES: Final = 65_536
AT_ONCE: Final = 256
"""Of what is handed over, before others have their turn."""
_COUNTS: Final = {
    "GEN_RTP_IN": "rtp_in", "GEN_RTP_IN_BYTES": "rtp_in_bytes", "GEN_RTP_OUT": "rtp_out", "GEN_RTP_LOST": "rtp_lost",
    "GEN_RTX_IN": "rtx_in", "GEN_RTX_OUT": "rtx_out", "GEN_NACK_OUT": "nack_out", "GEN_PLI_OUT": "pli_out",
    "GEN_PLI_IN": "pli_in", "GEN_FRAMES_IN": "frames_in", "GEN_FREEZES": "freezes",
    "GEN_TRACKS_RECEIVED": "tracks_received", "GEN_SEND_FAILED": "send_failed", "GEN_LINE_LOST": "line_lost",
    "GEN_RTP_STRANGE": "rtp_strange", "GEN_RTP_FOREIGN": "rtp_foreign", "GEN_HANDED_LOST": "own_drops",
}  # fmt: skip
_ERRORS: Final = {"GEN_RTP_UNREADABLE": "rtp not readable", "GEN_RTCP_UNREADABLE": "rtcp not readable"}
_HISTOGRAMS: Final = {
    "GEN_FORWARD": "forward_ms", "GEN_JITTER": "jitter_ms", "GEN_FREEZE": "freeze_ms",
    "GEN_LATE": "generator_play_late_ms",
}  # fmt: skip
NEEDED: Final = (
    "gen_new", "gen_free", "gen_bell", "gen_run", "gen_stop", "gen_turn", "gen_figures_take", "gen_take",
    "gen_line_new", "gen_line_cut", "gen_line_lose", "gen_line_free",
    "gen_peer_new", "gen_peer_free", "gen_keys", "gen_send", "gen_track_new", "gen_track_forget", "gen_listen",
    "gen_camera", "gen_rates", "gen_microphone", "gen_speak", "gen_hear",
    "GEN_DATAGRAM", "GEN_CHANGED", "GEN_AUDIO", "GEN_VP8", "GEN_VIDEO", *_COUNTS, *_ERRORS, *_HISTOGRAMS,
)  # fmt: skip
"""All that ``generator.h`` offers but `AHEAD`: a build that lacks any is of another day, whatever its version says."""
AHEAD: Final = "gen_ahead"
"""Asked for only where this machine's clock is not the run's: on one machine a build without it plays the same."""

OnDatagram = Callable[[bytes, int], None]
"""``(datagram, stamp_ns)``: what is no media, with the kernel's time of arrival or, behind a line, the line's."""


class EngineUnavailable(Exception):
    """It cannot be used here; the text says why."""


def load() -> tuple[Any, Any] | None:
    """``(ffi, lib)`` of the C side; None for pure Python.

    Raises:
        EngineUnavailable: ``c`` was asked for and is not there, or something was asked for that there is not.
    """
    asked = os.environ.get(VARIABLE, "auto")
    if asked not in ("auto", "c", "python"):
        raise EngineUnavailable(f"{VARIABLE} is auto, c or python, not {asked}")
    if asked == "python":
        return None
    try:
        module = importlib.import_module("load_tests.native._generator")
        _check(module.lib)
    except (ImportError, EngineUnavailable) as problem:
        if asked == "c":
            raise EngineUnavailable(str(problem)) from None
        sys.stderr.write(f"generator in pure Python, at several times the cost: {problem}\n")
        return None
    return module.ffi, module.lib


def _check(lib: Any) -> None:
    built = getattr(lib, "GEN_VERSION", 0)
    if built != VERSION:
        raise EngineUnavailable(f"built as version {built}, {VERSION} is needed: install again")
    if missing := [name for name in NEEDED if not hasattr(lib, name)]:
        raise EngineUnavailable(f"built without {', '.join(missing)}: install again")


class Engine:
    """The C side of one process; belongs to the running event loop until `close`."""

    def __init__(self, ffi: Any, lib: Any, ahead_ns: int = 0) -> None:
        self.ffi, self.lib = ffi, lib
        if ahead_ns and not hasattr(lib, AHEAD):
            raise EngineUnavailable(f"built without {AHEAD}, and clocks differ: install again")
        names = ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp")
        self.state: Any = lib.gen_new(*(ffi.cast("gen_srtp", _address(name)) for name in names))
        if self.state == ffi.NULL:
            raise EngineUnavailable("out of memory or descriptors")
        if ahead_ns:
            lib.gen_ahead(self.state, ahead_ns)
        self._figures = ffi.new("gen_figures *")
        self._room = ffi.new("unsigned char[]", ROOM_BYTES)
        self._peer, self._kind, self._stamp = ffi.new("int *"), ffi.new("int *"), ffi.new("int64_t *")
        self._takers: dict[int, tuple[OnDatagram, Callable[[], None], Callable[[], None]]] = {}
        self._next = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Play, in a thread of its own."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.lib.gen_bell(self.state), self.serve)
        self._thread = threading.Thread(target=self.lib.gen_run, args=(self.state,), name="media", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; idempotent. Transports that are still there are released."""
        if self.state == self.ffi.NULL:
            return
        for *_, release in list(self._takers.values()):
            release()
        if self._thread is not None and self._loop is not None:
            self.lib.gen_stop(self.state)
            self._thread.join()
            self._loop.remove_reader(self.lib.gen_bell(self.state))
        self.lib.gen_free(self.state)
        self.state = self.ffi.NULL

    def open(
        self, descriptor: int, path: Path, consult: int, own_ssrc: int, datagram: OnDatagram,
        changed: Callable[[], None], release: Callable[[], None],
    ) -> tuple[int, Any]:  # fmt: skip
        """A Transport on a connected socket: its number and handle.

        Args:
            release: called when the engine is closed first; does what `forget` wants.

        Raises:
            OSError: the socket cannot be waited for, or there is no memory.
        """
        carrier = path.carrier
        if not isinstance(carrier, EngineLine):
            carrier = path.carrier = EngineLine(self, path)
        self._next += 1
        handle = self.lib.gen_peer_new(self.state, self._next, descriptor, carrier.handle, consult + 1, own_ssrc)
        if handle == self.ffi.NULL:
            raise OSError(self.ffi.errno, os.strerror(self.ffi.errno))
        self._takers[self._next] = (datagram, changed, release)
        return self._next, handle

    def forget(self, number: int, handle: Any) -> None:
        """Before its socket is closed and its keys are gone."""
        self._takers.pop(number, None)
        if self.state != self.ffi.NULL:
            self.lib.gen_peer_free(self.state, handle)

    def serve(self) -> None:
        """Pass on what was handed over."""
        ffi, lib, state = self.ffi, self.lib, self.state
        for _ in range(AT_ONCE):
            size = lib.gen_take(state, self._room, ROOM_BYTES, self._peer, self._kind, self._stamp)
            if size < 0:
                return
            taker = self._takers.get(self._peer[0])
            if taker is None:
                continue
            if self._kind[0] == lib.GEN_DATAGRAM:
                taker[0](ffi.unpack(ffi.cast("char *", self._room), size), self._stamp[0])
            else:
                taker[1]()

    def settle(self, ledger: Ledger) -> None:
        """Add what was counted since the last call."""
        lib, figures = self.lib, self._figures
        lib.gen_figures_take(self.state, figures)
        for name, figure in _COUNTS.items():
            if times := figures.counts[getattr(lib, name)]:
                ledger.count(figure, times)
        for name, kind in _ERRORS.items():
            if times := figures.counts[getattr(lib, name)]:
                ledger.error(kind, times)
        for name, figure in _HISTOGRAMS.items():
            found = figures.histograms[getattr(lib, name)]
            if found.count:
                ledger.merge(figure, self._histogram(found))

    def _histogram(self, found: Any) -> Histogram:
        counts = self.ffi.unpack(found.buckets, len(found.buckets))
        return Histogram.decode(
            {
                "scale": 1000, "missing": 0, "total": found.total, "lowest": found.lowest, "highest": found.highest,
                "counts": list(_pairs(counts)),
            }
        )  # fmt: skip


class EngineLine:
    """A session's line in C."""

    def __init__(self, engine: Engine, path: Path) -> None:
        line, self._engine = path.line, engine
        self.handle = engine.lib.gen_line_new(
            engine.state, line.loss, line.delay_ms / 1000, line.jitter_ms / 1000, line.up_bps, line.down_bps,
            *path.seeds,
        )  # fmt: skip
        if self.handle == engine.ffi.NULL:
            raise MemoryError
        self._loss = line.loss
        self.set_cut(path.cut)
        self.set_loss(path.loss)

    def set_cut(self, cut: bool) -> None:
        """Nothing passes, or again what the line lets pass."""
        if self._engine.state == self._engine.ffi.NULL:
            return
        self._engine.lib.gen_line_cut(self._engine.state, self.handle, cut)

    def set_loss(self, share: float) -> None:
        """Lose so many besides what the line itself loses."""
        if self._engine.state != self._engine.ffi.NULL:
            whole = 1 - (1 - self._loss) * (1 - share)
            self._engine.lib.gen_line_lose(self._engine.state, self.handle, whole)

    def close(self) -> None:
        """Drop what is on the way."""
        if self._engine.state != self._engine.ffi.NULL:
            self._engine.lib.gen_line_free(self._engine.state, self.handle)


def _pairs(counts: Iterable[int]) -> Iterable[int]:
    for bucket, times in enumerate(counts):
        if times:
            yield bucket
            yield times


def _address(name: str) -> int:
    return int(_binding.ffi.cast("uintptr_t", _binding.ffi.addressof(_binding.lib, name)))
