"""Our media worker beside Janus VideoRoom with a consult's own cameras and viewers, in one run.

The room is a consult's: three cameras (720p simulcast in three layers, Opus) and nine watchers who take all three at
their largest. Senders and receivers are those of the scenarios (`load_tests.session.swift`): true sizes and pacing,
a browser's feedback, latency from what packets end with to the kernel's arrival stamp. Towards our worker they are
agreed on by its control connection, as the server does it, towards Janus by `janus_room`; no server of ours takes part.

Relays stand in a network namespace on one core, one at a time; the generator in another, on the others (`namespaces`).
Rooms are added, ours and Janus in turns at each number, until a bound is passed twice: forward p99 above ``BOUND_MS``,
more than ``LOSS`` of the packets never there, a picture that never came, or watchers who get less than ``FULL`` of what
the cameras would send. (Cameras give way to a relay that is full, as browsers do: without that last bound it would only
look thrifty.) Where the generator used more than ``GENERATOR_SHARE`` of its cores a point says nothing, and that relay
has held "at least" what it held before.

What each does: Janus repairs from a buffer, and is told to send viewers what publishers send. Ours also estimates each
viewer's line, paces, and chooses layers by it. Packets are not equal, so cost is told for a packet, with the bitrate.

``--keep FILE``: each point is written there as soon as it is measured, and one that is there is not measured again, so
that a comparison may be ended at any time and goes on with the same command.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from load_tests.bench.options import own_core
from load_tests.peers.consult_rooms import (
    CAMERAS_EACH,
    LARGEST,
    WATCHERS_EACH,
    Crowd,
    crowd,
    fill_janus,
    fill_ours,
)
from load_tests.peers.janus import JanusFailed
from load_tests.peers.janus_room import JanusRooms
from load_tests.report.ledger import Ledger
from load_tests.rig import namespaces
from load_tests.rig.figures import Scalar, emit, note
from load_tests.rig.namespaces import GENERATOR_ADDRESS, RELAY_ADDRESS, RelaySide
from load_tests.rig.peer import PeerFailed
from load_tests.rig.worker_process import WorkerFailed, worker
from load_tests.run.limits import raise_descriptors

RELAYS: Final = ("consilium", "janus_best", "janus_default")
ROOMS: Final = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)
TRIES: Final = 2
NICE: Final = -20
SETTLE_S, WINDOW_S = 10.0, 5.0
BOUND_MS, LOSS, FULL, GENERATOR_SHARE = 50.0, 0.001, 0.9, 0.9
WHOLE_KBPS: Final = CAMERAS_EACH * LARGEST.bitrate_bps / 1000
"""Of all three cameras' largest pictures."""
FAILURES: Final = (JanusFailed, PeerFailed, WorkerFailed, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Point:
    """One relay with so many rooms."""

    rooms: int
    forward_p50_ms: float
    forward_p99_ms: float
    lost_share: float
    packets_per_s: float
    viewer_kbps: float
    us_per_packet: float
    core_share: float
    generator_share: float
    here: int
    """Tracks of which something whole has come,"""
    wanted: int
    """of so many."""

    @property
    def passed(self) -> list[str]:
        """Bounds that were."""
        looked_at = {
            "late": self.forward_p99_ms > BOUND_MS,
            "lost": self.lost_share > LOSS,
            "nothing": self.here < self.wanted,
            "thin": self.viewer_kbps < FULL * WHOLE_KBPS,
        }
        return [name for name, is_passed in looked_at.items() if is_passed]

    @property
    def held(self) -> bool:
        """Everything came, whole and in time."""
        return not self.passed

    @property
    def valid(self) -> bool:
        """The generator was not what gave out."""
        return self.generator_share <= GENERATOR_SHARE


class Kept:
    """Points that were measured, in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._points: dict[str, Point] = {}
        if path is not None and path.exists():
            said = json.loads(path.read_text("utf-8"))
            self._points = {name: Point(**point) for name, point in said.items()}

    def get(self, name: str, rooms: int) -> Point | None:
        """Of an earlier run."""
        return self._points.get(f"{name} {rooms}")

    def put(self, name: str, point: Point) -> None:
        """Written at once: whoever ends the run loses the point that is being measured, no more."""
        self._points[f"{name} {point.rooms}"] = point
        if self._path is not None:
            said = {name: dataclasses.asdict(one) for name, one in self._points.items()}
            beside = self._path.with_name(self._path.name + ".new")
            beside.write_text(json.dumps(said, indent=1), "utf-8")
            beside.replace(self._path)


# ---------------------------------------------------------------- measuring


async def measure(crowd: Crowd, cpu_s: Any, rooms: int) -> Point:
    """One window."""
    await crowd.begin()
    await asyncio.sleep(SETTLE_S)
    crowd.engine.settle(Ledger())
    ledger = Ledger()
    relay_s, own_s, began = cpu_s(), time.process_time(), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    crowd.engine.settle(ledger)
    elapsed_s = time.monotonic() - began
    spent_s, own_s = cpu_s() - relay_s, time.process_time() - own_s
    packets, lost = ledger.counts["rtp_in"], ledger.counts["rtp_lost"]
    forward = ledger.distributions.get("forward_ms")
    tracks = [track for receiver in crowd.receivers for track in receiver.tracks.values()]
    return Point(
        rooms=rooms,
        forward_p50_ms=_or_never(forward.percentile(50) if forward else None),
        forward_p99_ms=_or_never(forward.percentile(99) if forward else None),
        lost_share=lost / max(1, lost + packets),
        packets_per_s=packets / elapsed_s,
        viewer_kbps=ledger.counts["rtp_in_bytes"] * 8 / elapsed_s / 1000 / max(1, len(crowd.receivers)),
        us_per_packet=spent_s * 1e6 / max(1, packets),
        core_share=spent_s / elapsed_s,
        generator_share=own_s / elapsed_s / len(os.sched_getaffinity(0)),
        here=sum(track.here for track in tracks),
        wanted=rooms * WATCHERS_EACH * CAMERAS_EACH * 2,
    )


def _or_never(value: float | None) -> float:
    return float("inf") if value is None else value


async def one_point(name: str, side: RelaySide, rooms: int) -> Point:
    """A relay, its rooms, a window, and the end of all of it."""
    async with contextlib.AsyncExitStack() as stack:
        if name == "consilium":
            ours = await stack.enter_async_context(worker(RELAY_ADDRESS, launch=side.launch, forward="c"))
            people = await stack.enter_async_context(crowd())
            await fill_ours(people, ours, rooms)
            return await measure(people, ours.cpu_s, rooms)
        people = await stack.enter_async_context(crowd())
        janus = JanusRooms(people.poller, name, 1 if name == "janus_best" else None)
        stack.push_async_callback(janus.close)
        await janus.open(GENERATOR_ADDRESS, side.launch)
        await fill_janus(people, janus, rooms)
        return await measure(people, janus.cpu_s, rooms)


async def settled_point(name: str, side: RelaySide, rooms: int) -> Point | None:
    """The first try that says something for the relay, else the last; None when it cannot be brought up.

    On a machine that others share one bad window may be their doing, and Janus does not always come up.
    """
    point = None
    for _ in range(TRIES):
        try:
            point = await one_point(name, side, rooms)
        except FAILURES as problem:
            note(f"consult_peers: {name} with {rooms} rooms: {type(problem).__name__} {problem}")
            continue
        note(f"  {rooms} rooms, {name}: {point} {' '.join(point.passed)}")
        if point.held and point.valid:
            break
    return point


@dataclass
class Found:
    """What became of one relay."""

    best: int = 0
    ended_by: str = "rooms"
    """Bounds that were passed with the next number of rooms; or ``generator``, ``up`` (it could not be brought up),
    ``rooms`` (no more were asked for)."""


async def compare(core: int, rooms: Sequence[int], kept: Kept) -> None:
    """All points, inside the generator's namespace."""
    found = {name: Found() for name in RELAYS}
    trying = list(RELAYS)
    with namespaces.relay_side(core) as side:
        for count in rooms:
            points: dict[str, Point] = {}
            for name in list(trying):
                point = kept.get(name, count) or await settled_point(name, side, count)
                if point is not None:
                    points[name] = point
                if point is not None and point.valid:
                    kept.put(name, point)
                if point is not None and point.valid and point.held:
                    found[name].best = count
                    continue
                trying.remove(name)
                found[name].ended_by = _end(point)
            report(points)
    report_best(found)


def _end(point: Point | None) -> str:
    if point is None:
        return "up"
    return " ".join(point.passed) if point.valid else "generator"


def report(points: dict[str, Point]) -> None:
    """The figures of one number of rooms."""
    ours = points.get("consilium")
    if ours is None or not all(one.valid for one in points.values()):
        return
    params: dict[str, Scalar] = {
        "rooms": ours.rooms, "cameras": CAMERAS_EACH, "watchers": WATCHERS_EACH, "window_s": WINDOW_S, "link": "veth",
    }  # fmt: skip
    for name, one in points.items():
        params |= {
            f"{name}_viewer_kbps": round(one.viewer_kbps), f"{name}_core": round(one.core_share, 3),
            f"{name}_lost_share": round(one.lost_share, 6), f"{name}_tracks": f"{one.here}/{one.wanted}",
            f"{name}_generator": round(one.generator_share, 2), f"{name}_packets_per_s": round(one.packets_per_s),
            f"{name}_passed": " ".join(one.passed),
        }  # fmt: skip
    for figure, field_name, unit in (
        ("consult_forward_ms_p50", "forward_p50_ms", "ms"), ("consult_forward_ms_p99", "forward_p99_ms", "ms"),
        ("consult_us_per_packet", "us_per_packet", "us"),
    ):  # fmt: skip
        others = {name: round(getattr(one, field_name), 4) for name, one in points.items() if name != "consilium"}
        emit(figure, getattr(ours, field_name), unit, params, others)


def report_best(found: dict[str, Found]) -> None:
    """How many rooms each held, and what ended it."""
    params: dict[str, Scalar] = {
        "bound_ms": BOUND_MS, "loss": LOSS, "full": FULL, "cameras": CAMERAS_EACH, "watchers": WATCHERS_EACH,
    }  # fmt: skip
    params |= {f"{name}_ended_by": one.ended_by for name, one in found.items()}
    others = {name: float(one.best) for name, one in found.items() if name != "consilium"}
    emit("consult_rooms_on_a_core", found["consilium"].best, "rooms", params, others)


def run(rooms: Sequence[int] = ROOMS, keep: str = "", nice: int = NICE) -> None:
    """The comparison, in namespaces of its own; left out with a note where they cannot be had."""
    reason = namespaces.why_not()
    if reason is not None:
        note(f"consult_peers: left out, no network namespaces here: {reason}")
        return
    raise_descriptors()  # Janus has several for each PeerConnection
    arguments = ["--inside", "--rooms", ",".join(map(str, rooms)), "--keep", keep, f"--nice={nice}"]
    code = namespaces.run_inside("load_tests.peers.consults", arguments)
    if code:
        raise SystemExit(code)


def main() -> int:
    """The comparison, or the inside of it."""
    parser = argparse.ArgumentParser(description="Our media worker beside Janus VideoRoom with a consult's cameras.")
    parser.add_argument("--rooms", default=",".join(map(str, ROOMS)), help="how many rooms, as 1,2,4")
    parser.add_argument("--keep", default="", metavar="FILE", help="points are kept there, not measured again")
    parser.add_argument("--nice", type=int, default=NICE, help="priority of generator and relays")
    parser.add_argument("--inside", action="store_true", help="in the generator's namespace already")
    chosen = parser.parse_args()
    rooms = [int(word) for word in chosen.rooms.split(",")]
    if not chosen.inside:
        run(rooms, chosen.keep, chosen.nice)
        return 0
    with own_core(chosen.nice) as relay_core:
        asyncio.run(compare(relay_core, rooms, Kept(Path(chosen.keep) if chosen.keep else None)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
