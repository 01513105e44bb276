"""What one packet costs a generator, in C and in Python, in one run: only the ratio is worth anything elsewhere.

``in``: an SRTP packet from the socket's buffer to the counts, one in 16 decrypted. ``out``: a packet from the picture
to the far end's buffer, in Python without the cutting and pacing of pictures, which the other includes. CPU of the one
thread that does it, system calls included.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from pylibsrtp import Policy, Session

from load_tests.plan.behaviour import CAMERAS
from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.rig.peer import LoadPeer
from load_tests.rig.poller import Poller
from load_tests.session import engine as engines
from load_tests.session.path import Path
from load_tests.session.picture import still_frames
from load_tests.session.receiving import Receiver
from load_tests.session.sending import VIDEO_PT, Numbers, Stream
from load_tests.session.swift import SwiftPeer, SwiftReceiver, SwiftSender, srtp_handle
from load_tests.session.trailer import build_trailer
from load_tests.session.transport import SessionPeer
from media.core import ortc, rtp

KEY: Final = bytes(range(28))
SSRC: Final = 0x1234
BATCH, BATCHES = 64, 100
BYTES: Final = 1_100
CAMERAS_AT_ONCE: Final = 16
MADE: Final = {
    "consumer": "c", "producer": "p", "kind": "video",
    "rtp_parameters": {"encodings": [{"ssrc": SSRC}], "codecs": [{"clockRate": 90_000}]},
}  # fmt: skip


def _session(kind: int) -> Session:
    return Session(Policy(key=KEY, ssrc_type=kind, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM))


def _packets() -> list[list[bytes]]:
    protect = _session(Policy.SSRC_ANY_OUTBOUND).protect
    made = []
    for number in range(BATCH * BATCHES):
        block = rtp.build_extensions([(ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI], struct.pack("!H", number & 0xFFFF))])
        head = struct.pack("!BBHII", 0x90, (number % 4 == 3) << 7 | VIDEO_PT, number & 0xFFFF, number * 750, SSRC)
        payload = b"\x90\x80\x00\x10" + bytes(BYTES) + build_trailer(0, time.time_ns())
        made.append(bytes(protect(head + block + payload)))
    return [made[start : start + BATCH] for start in range(0, len(made), BATCH)]


def _us_each(far: socket.socket, batches: list[list[bytes]], take: Callable[[], None]) -> float:
    """CPU of taking each packet, in microseconds."""
    spent_ns = 0
    for batch in batches:
        for one in batch:
            far.send(one)
        began = time.thread_time_ns()
        take()
        spent_ns += time.thread_time_ns() - began
    return spent_ns / 1000 / (BATCH * len(batches))


def _far(peer: LoadPeer) -> socket.socket:
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    far.bind(("127.0.0.1", 0))
    far.connect(peer.address)
    peer._socket.connect(far.getsockname())
    return far


def _drain(far: socket.socket) -> int:
    far.setblocking(False)
    came = 0
    while True:
        try:
            came += bool(far.recv(2048))
        except BlockingIOError:
            return came


async def measure() -> dict[str, Any]:
    """Microseconds for each way and side."""
    found = engines.load()
    ledger, poller = Ledger(), Poller()
    figures: dict[str, Any] = {"packet_bytes": BYTES}
    keys = SimpleNamespace(_rx_srtp=_session(Policy.SSRC_ANY_INBOUND), _tx_srtp=_session(Policy.SSRC_ANY_OUTBOUND))

    slow = SessionPeer(poller, "127.0.0.1", Path(Line(), "s", ledger), ledger)
    far = _far(slow)
    slow.dtls._rx_srtp, slow.dtls._tx_srtp = keys._rx_srtp, keys._tx_srtp
    receiver = Receiver(slow, ledger, lambda: None, timed=True, consult=0)
    receiver.add(MADE)

    def take_slowly() -> None:
        for _ in range(BATCH):
            slow.read_one()

    figures["python_in_us"] = _us_each(far, _packets(), take_slowly)
    stream = Stream(slow, Numbers(), ledger, "0", "r2")
    spent_ns = 0
    for _ in range(BATCHES):
        began = time.thread_time_ns()
        for number in range(BATCH):
            payload = bytes(BYTES) + build_trailer(0, time.time_ns())
            stream.send(VIDEO_PT, number, payload, marker=False, keep=True)
        spent_ns += time.thread_time_ns() - began
        _drain(far)
    figures["python_out_us"] = spent_ns / 1000 / (BATCH * BATCHES)
    slow.sink = None

    if found is not None:
        figures |= _measure_c(engines.Engine(*found), poller, ledger)
    await poller.close()
    return figures


def _swift(engine: engines.Engine, poller: Poller, ledger: Ledger) -> tuple[SwiftPeer, socket.socket, list[Session]]:
    """A Transport in C with keys, its far end, and what keeps the keys."""
    peer = SwiftPeer(engine, poller, "127.0.0.1", Path(Line(), "s", ledger), ledger, 0)
    contexts = [_session(Policy.SSRC_ANY_INBOUND), _session(Policy.SSRC_ANY_OUTBOUND)]
    cast = engine.ffi.cast
    engine.lib.gen_keys(engine.state, peer.handle, *(cast("void *", srtp_handle(one)) for one in contexts))
    return peer, _far(peer), contexts


def _measure_c(engine: engines.Engine, poller: Poller, ledger: Ledger) -> dict[str, Any]:
    lib = engine.lib
    viewer, far, _keys = _swift(engine, poller, ledger)
    SwiftReceiver(viewer, lambda: None, timed=True).add(MADE)
    lib.gen_turn(engine.state, time.monotonic(), 0)
    figures = {"c_in_us": _us_each(far, _packets(), lambda: lib.gen_turn(engine.state, time.monotonic(), 0))}
    layers = CAMERAS["720p"]
    for layer in layers:
        still_frames(layer.width, layer.height)
    sessions = [_swift(engine, poller, ledger) for _ in range(CAMERAS_AT_ONCE)]
    for number, (peer, *_) in enumerate(sessions):
        SwiftSender(peer, f"s{number}", timed=True).begin_camera(layers)
        lib.gen_rates(engine.state, peer.handle, [layer.bitrate_bps for layer in layers], len(layers))
    now_s, sent, spent_ns = time.monotonic(), 0, 0
    for _ in range(2_000):
        now_s += 0.001
        began = time.thread_time_ns()
        lib.gen_turn(engine.state, now_s, 0)
        spent_ns += time.thread_time_ns() - began
        sent += sum(_drain(one) for _, one, _ in sessions)
    figures["c_out_us"] = spent_ns / 1000 / sent
    engine.settle(ledger)
    engine.close()
    return figures


def run() -> None:
    """One JSON object."""
    print(json.dumps({"what": "generator_packet", **asyncio.run(measure())}))


if __name__ == "__main__":
    run()
