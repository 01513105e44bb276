"""A Transport whose media is played in C (`engine`): the same three faces as its twins in pure Python.

`SwiftPeer` is a `SessionPeer`, `SwiftReceiver` a `Receiver`, `SwiftSender` a `Sender` to those who build a session.
"""

from __future__ import annotations

import functools
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from pylibsrtp import _binding

from load_tests.plan.behaviour import Layer
from load_tests.report.ledger import Ledger
from load_tests.rig.peer import PeerFailed, Remote
from load_tests.rig.poller import Poller
from load_tests.session.engine import Engine
from load_tests.session.path import Path
from load_tests.session.picture import still_frames
from load_tests.session.rate import Heard, SendRate
from load_tests.session.receiving import FEEDBACK_S, OWN_SSRC, REPORT_S, is_vp8
from load_tests.session.sending import (
    AUDIO_PT,
    AUDIO_S,
    RTX_PT,
    VIDEO_PT,
    Extensions,
    picture_sizes,
    size_at,
)
from load_tests.session.transport import SessionPeer
from media.core import ortc

LEVEL_ELEMENT_BYTES: Final = 1
CALM_S: Final = 1.0
FOREVER: Final = float("inf")


class _Wiring:
    """What a peer takes for its poller: chores as ever, the socket is the engine's."""

    def __init__(self, poller: Poller, release: Callable[[], None]) -> None:
        self.every, self.forget, self._release = poller.every, poller.forget, release

    def add(self, descriptor: int, reader: Callable[[], None]) -> None:
        """The engine reads it."""

    def remove(self, descriptor: int) -> None:
        """The socket is about to be closed."""
        self._release()


class SwiftPeer(SessionPeer):
    """A peer of one session whose socket the engine serves."""

    def __init__(self, engine: Engine, poller: Poller, bind: str, path: Path, ledger: Ledger, consult: int) -> None:
        self.handle: Any = None
        wiring: Any = _Wiring(poller, self._release)
        super().__init__(wiring, bind, path, ledger)
        self.engine = engine
        self.on_changed: Callable[[], None] = lambda: None
        self.on_released: Callable[[], None] = lambda: None
        """The handle and all tracks of it are about to be freed."""
        self.number, self.handle = engine.open(
            self._socket.fileno(),
            path,
            consult,
            OWN_SSRC,
            self._came,
            self._something_changed,
            self._release,
        )

    async def connect_to(self, remote: Remote) -> None:
        """Check, shake hands, give the keys to the engine.

        Raises:
            PeerFailed: it did not come up.
        """
        await super().connect_to(remote)
        handle = self.open_handle
        keys = [srtp_handle(session) for session in (self.dtls._rx_srtp, self.dtls._tx_srtp)]
        cast, lib = self.engine.ffi.cast, self.engine.lib
        lib.gen_keys(self.engine.state, handle, *(cast("void *", key) for key in keys))

    async def close(self) -> None:
        """Say goodbye and release the socket; idempotent."""
        if self.handle is not None:
            null = self.engine.ffi.NULL
            self.engine.lib.gen_keys(self.engine.state, self.handle, null, null)
        await super().close()

    def _release(self) -> None:
        if self.handle is not None:
            handle, self.handle = self.handle, None
            self.on_released()
            self.engine.forget(self.number, handle)

    @property
    def open_handle(self) -> Any:
        """The handle.

        Raises:
            PeerFailed: it was closed meanwhile.
        """
        if self.handle is None:
            raise PeerFailed("closed meanwhile")
        return self.handle

    def _send_now(self, datagram: bytes) -> bool:
        if self.handle is None:
            return True
        return bool(self.engine.lib.gen_send(self.engine.state, self.handle, datagram, len(datagram)))

    def _came(self, datagram: bytes, stamp_ns: int) -> None:
        self.arrived_ns = stamp_ns
        self._take_other(datagram)

    def _something_changed(self) -> None:
        self.on_changed()


class SwiftTrack:
    """One Consumer's stream, as the engine sees it."""

    def __init__(self, consumer: str, producer: str, kind: Literal["audio", "video"], cdata: Any) -> None:
        self.consumer, self.producer, self.kind = consumer, producer, kind
        self._cdata: Any = cdata

    def release(self) -> Any:
        """What is behind it is about to be freed; from now on it was never here. The second time: None."""
        cdata, self._cdata = self._cdata, None
        return cdata

    @property
    def here(self) -> bool:
        """What it is for has been seen or heard once."""
        if self._cdata is None:
            return False
        return bool(self._cdata.picture_s if self.kind == "video" else self._cdata.first_s)

    @property
    def last_frame_s(self) -> float:
        """When the newest picture was whole; 0: never."""
        return 0.0 if self._cdata is None else float(self._cdata.last_frame_s)


class SwiftReceiver:
    """All tracks of one receiving Transport."""

    def __init__(self, peer: SwiftPeer, changed: Callable[[], None], *, timed: bool) -> None:
        self.tracks: dict[int, SwiftTrack] = {}
        self._peer = peer
        peer.on_changed, peer.on_released = changed, self._release
        now_s = time.monotonic()
        first = [now_s + random.random() * interval_s for interval_s in (FEEDBACK_S, REPORT_S)]
        peer.engine.lib.gen_listen(peer.engine.state, peer.open_handle, timed, *first)

    def add(self, made: Mapping[str, Any]) -> SwiftTrack:
        """Expect what ``consume`` promised."""
        parameters = made["rtp_parameters"]
        encoding, engine = parameters["encodings"][0], self._peer.engine
        codec, lib = parameters["codecs"][0], engine.lib
        kind = lib.GEN_AUDIO if made["kind"] == "audio" else lib.GEN_VP8 if is_vp8(codec) else lib.GEN_VIDEO
        cdata = lib.gen_track_new(
            engine.state, self._peer.open_handle, encoding["ssrc"], encoding.get("rtx", {}).get("ssrc", 0), kind,
            codec["clockRate"],
        )  # fmt: skip
        if cdata == engine.ffi.NULL:
            raise MemoryError
        if encoding["ssrc"] in self.tracks:
            self._forget(encoding["ssrc"])
        track = self.tracks[encoding["ssrc"]] = SwiftTrack(made["consumer"], made["producer"], made["kind"], cdata)
        return track

    def forget(self, producer: str) -> None:
        """Its Producer was closed."""
        for ssrc, track in list(self.tracks.items()):
            if track.producer == producer:
                self._forget(ssrc)

    def _forget(self, ssrc: int) -> None:
        engine = self._peer.engine
        engine.lib.gen_track_forget(engine.state, self._peer.handle, self.tracks.pop(ssrc).release())

    def _release(self) -> None:
        for track in self.tracks.values():
            track.release()
        self.tracks.clear()

    def close(self) -> None:
        """Count what is still missing as lost; idempotent. Its Transport is still open."""
        for producer in {track.producer for track in self.tracks.values()}:
            self.forget(producer)

    @property
    def pictures(self) -> list[SwiftTrack]:
        """The videos."""
        return [track for track in self.tracks.values() if track.kind == "video"]


class SwiftSender:
    """Everything that a session sends on its sending Transport."""

    def __init__(self, peer: SwiftPeer, seed: str, *, timed: bool) -> None:
        self._peer, self._timed = peer, timed
        self._chance = random.Random(seed)
        self._rate: SendRate | None = None
        self._heard: Any = peer.engine.ffi.new("gen_heard *")
        self._looked_s = 0.0
        lib, state = peer.engine.lib, peer.engine.state
        lib.gen_speak(state, peer.open_handle, time.monotonic() + random.random() * REPORT_S)

    def close(self) -> None:
        """Stop both; idempotent."""
        if self._peer.handle is not None:
            self._peer.engine.lib.gen_speak(self._peer.engine.state, self._peer.handle, FOREVER)

    def begin_camera(self, layers: Sequence[Layer]) -> tuple[int, int]:
        """Pictures from now on; the SSRCs of the first layer and of its repairs."""
        engine = self._peer.engine
        rows = engine.ffi.new("gen_layer[]", len(layers))
        rate = self._rate = SendRate(layers, time.monotonic())
        for row, layer, bitrate_bps in zip(rows, layers, rate.bitrates, strict=True):
            row.width, row.height, row.frames_per_s = layer.width, layer.height, layer.frames_per_s
            row.bitrate_bps = bitrate_bps
            key, still = _frames(engine.ffi, layer.width, layer.height)
            row.key, row.key_bytes, row.still, row.still_bytes = key, len(key), still, len(still)
            _name(row, engine.ffi, "0", layer.rid)
        sizes = picture_sizes()
        factors = engine.ffi.from_buffer("float[]", sizes)
        due_s = time.monotonic() + self._chance.random() / layers[0].frames_per_s
        engine.lib.gen_camera(
            engine.state, self._peer.open_handle, rows, len(layers), factors, len(sizes), size_at(self._chance), due_s,
            VIDEO_PT, RTX_PT, self._timed,
        )  # fmt: skip
        return int(rows[0].ssrc), int(rows[0].rtx_ssrc)

    def steer(self) -> None:
        """Every `rate.LOOK_S`: send what the line carries; where everything passes, once a second is enough."""
        rate, now_s, heard = self._rate, time.monotonic(), self._heard
        if rate is None or self._peer.handle is None or (rate.full and now_s - self._looked_s < CALM_S):
            return
        self._looked_s = now_s
        engine = self._peer.engine
        engine.lib.gen_hear(engine.state, self._peer.handle, heard)
        told = Heard(
            heard.told, heard.arrived, heard.arrived_bytes, heard.delay_sum_us / max(1, heard.delay_count),
            heard.delay_least_us, heard.remb_bps,
        )  # fmt: skip
        if rate.look(now_s, told):
            bitrates = engine.ffi.new("int32_t[]", rate.bitrates)
            engine.lib.gen_rates(engine.state, self._peer.handle, bitrates, len(rate.bitrates))

    def begin_microphone(self) -> int:
        """Sound from now on; its SSRC."""
        engine = self._peer.engine
        row = engine.ffi.new("gen_layer *")
        level = (ortc.AUDIO_LEVEL_URI, b"\x7f")
        _name(row, engine.ffi, "1", "", [level])
        phase_s = self._chance.random() * 4
        due_s = time.monotonic() + self._chance.random() * AUDIO_S
        head = bytes(row.block[0 : row.block_bytes])
        level_at = head.rindex(bytes((ortc.EXTENSION_IDS[ortc.AUDIO_LEVEL_URI] << 4, 0x7F))) + LEVEL_ELEMENT_BYTES
        engine.lib.gen_microphone(
            engine.state, self._peer.open_handle, row, due_s, phase_s, AUDIO_PT, level_at, self._timed
        )  # fmt: skip
        return int(row.ssrc)


@functools.cache
def _frames(ffi: Any, width: int, height: int) -> tuple[Any, Any]:
    """A picture's frames where C may keep pointing to them: they stay as long as the process."""
    key, still = still_frames(width, height)
    return ffi.from_buffer(key), ffi.from_buffer(still)


def _name(row: Any, ffi: Any, mid: str, rid: str, more: Sequence[tuple[str, bytes]] = ()) -> None:
    """Numbers and header extensions of a stream."""
    row.ssrc, row.rtx_ssrc = secrets.randbits(32), secrets.randbits(32)
    row.seq, row.rtx_seq = secrets.randbits(15), secrets.randbits(15)
    row.timestamp = secrets.randbits(32)
    named = [(ortc.MID_URI, mid.encode()), *more]
    block = Extensions(named + ([(ortc.RID_URI, rid.encode())] if rid else [])).with_number(bytes(2))
    repaired = Extensions(named + ([(ortc.REPAIRED_RID_URI, rid.encode())] if rid else [])).with_number(bytes(2))
    ffi.memmove(row.block, block, len(block))
    ffi.memmove(row.rtx_block, repaired, len(repaired))
    row.block_bytes, row.rtx_block_bytes = len(block), len(repaired)


def srtp_handle(session: Any) -> int:
    """The address of libsrtp's context behind a pylibsrtp session; good as long as the session lives."""
    return int(_binding.ffi.cast("uintptr_t", session._srtp[0]))
