"""What witnesses tell, and the pictures that they can decode."""

from __future__ import annotations

import math
import os
import random
import sys
import time
from typing import Any

import av
import pytest

from load_tests.plan.behaviour import CAMERAS
from load_tests.plan.reading import read_scenario
from load_tests.plan.timetable import timetable
from load_tests.report import witness_table
from load_tests.report.digest import summarise
from load_tests.report.histogram import Histogram
from load_tests.report.record import Record
from load_tests.report.witness import Seen, beside, of_witnesses
from load_tests.run.witness import Witnesses, with_witnesses
from load_tests.session.picture import still_frames
from load_tests.session.sending import KEY_FACTOR, PAYLOAD_BYTES
from load_tests.session.trailer import TRAILER, build_trailer
from load_tests.session.world import ConsultSecrets, World, needs_of

LAYERS = [*CAMERAS["720p"], *CAMERAS["single"]]
DESCRIPTOR_BYTES = 5


def assembled(beginning: bytes, size: float) -> bytes:
    """A frame as a receiver has it: what its packets carry behind their VP8 descriptors."""
    count = math.ceil(size / PAYLOAD_BYTES)
    room = int(size / count) - DESCRIPTOR_BYTES - TRAILER.size
    whole = b""
    for number in range(count):
        head = beginning[:room] if number == 0 else b""
        whole += head + os.urandom(room - len(head)) + build_trailer(0, 1)
    return whole


@pytest.mark.parametrize("layer", LAYERS, ids=lambda one: f"{one.width}x{one.height}")
def test_a_decoder_takes_every_frame_whatever_it_was_filled_up_with(layer: Any) -> None:
    key, still = still_frames(layer.width, layer.height)
    mean_bytes, chance = layer.bitrate_bps / 8 / layer.frames_per_s, random.Random(1)
    decoder = av.CodecContext.create("libvpx", "r")
    for number in range(24):
        size = mean_bytes * KEY_FACTOR if number % 12 == 0 else mean_bytes * chance.lognormvariate(-0.06, 0.35)
        (picture,) = decoder.decode(av.Packet(assembled(still if number % 12 else key, size)))  # type: ignore[attr-defined]
        assert (picture.width, picture.height) == (layer.width, layer.height)


def told(at: int, **more: Any) -> dict[str, Any]:
    video = {
        "id": "v", "kind": "video", "packetsReceived": 100 * at, "packetsLost": at // 10, "framesDecoded": 30 * at,
        "framesDropped": 0, "freezeCount": at // 20, "jitterBufferDelay": 0.9 * at, "jitterBufferEmittedCount": 30 * at,
    }  # fmt: skip
    nothing: dict[str, Any] = {
        "clickToFirstFrameMs": None, "forward_ms": [], "event_ms": [], "turn_shown_ms": [], "ecg_age_ms": [],
        "ecg_looks": 10, "ecg_live": 9, "cpu_s": at / 2, "tracks": [video],
    }  # fmt: skip
    return nothing | more


def test_a_witness_is_measured_after_the_warming_up_but_its_join_counts_all_the_same() -> None:
    seen = Seen("chromium-0", "load-0", measure_from_s=10)
    seen.look(5, told(5, clickToFirstFrameMs=640.0, forward_ms=[900.0]))
    for at in range(10, 31):
        seen.look(at, told(at, clickToFirstFrameMs=640.0, forward_ms=[4.0, 6.0], ecg_age_ms=[170]))
    state = seen.state()
    assert state.distributions["first_picture_ms"].p50 == 640
    assert state.distributions["forward_ms"].count == 42
    assert state.distributions["forward_ms"].max == 6  # nothing of before
    assert state.distributions["frames_per_s"].p50 == pytest.approx(30, rel=0.01)
    assert state.distributions["jitter_buffer_ms"].p50 == pytest.approx(30, rel=0.01)
    assert state.counts == {
        "frames_decoded": 600, "frames_dropped": 0, "freezes": 0 + 1, "packets": 2_000, "packets_lost": 2,
        "ecg_looks": 210, "ecg_live": 189,
    }  # fmt: skip
    assert (state.watched_s, state.cpu_cores) == (20, 0.5)


def test_a_track_that_begins_anew_and_a_problem_are_no_negative_counts() -> None:
    seen = Seen("chromium-0", "load-0")
    seen.look(1, told(100))
    seen.look(2, told(3))  # the page made its connection again: its statistics begin at nothing
    assert all(times >= 0 for times in seen.counts.values())
    seen.problem = "it closed"
    assert "it closed" in of_witnesses([seen])[0]
    assert Seen("chromium-1", "load-0").state().cpu_cores == 0


def test_only_what_both_measured_is_put_side_by_side() -> None:
    one, other, simulated = Seen("a", "x"), Seen("b", "x"), Histogram()
    one.look(1, told(1, forward_ms=[4.0], event_ms=[10.0]))
    other.look(1, told(1, forward_ms=[8.0]))
    simulated.add(1.0)
    (pair,) = beside([one, other], {"forward_ms": simulated})
    assert (pair.witness, pair.witness_p99, pair.simulated_p50) == ("forward_ms", 8.0, 1.0)


@pytest.mark.parametrize(("witnesses", "more"), [(0, 0), (1, 1), (2, 1), (3, 2)])
def test_the_world_has_an_account_for_each_witness_of_a_consult(witnesses: int, more: int) -> None:
    needs = needs_of(read_scenario("steady_hub"))  # two consults
    assert with_witnesses(needs, witnesses).each.doctors == needs.each.doctors + more


FAILING = "import sys; sys.exit('no browser here')"
STOPPING = """
import json, sys
order = json.loads(sys.stdin.readline())
for seat in order["seats"]:
    print(json.dumps({"is": "ready", "witness": seat["number"]}), flush=True)
sys.stdin.readline()
print(json.dumps({"is": "problem", "witness": 0, "why": "the page crashed"}), flush=True)
print(json.dumps({"is": "joined", "witness": 1, "at": 1.0}), flush=True)
sys.stdin.read()
print(json.dumps({"is": "left", "witness": 1}), flush=True)
"""


@pytest.mark.parametrize(
    ("program", "problems"),
    [(FAILING, ["no browser here"] * 2), (STOPPING, ["the page crashed", ""])],
    ids=["no browser", "one page crashes"],
)
async def test_a_witness_that_does_not_take_part_is_said_and_ends_nothing(program: str, problems: list[str]) -> None:
    scenario = read_scenario("steady_hub")
    needs = needs_of(scenario)
    told: list[str] = []
    witnesses = Witnesses(2, scenario, timetable(scenario), told.append)
    doctors = tuple(f"d{number}" for number in range(needs.each.doctors + 1))
    secrets = [
        ConsultSecrets(
            id=f"c{number}", patient="p", identifiers=("1", "2"), doctors=doctors, partner_doctors=(), rooms=(),
            devices=(), screens=(),
        )
        for number in range(2)
    ]  # fmt: skip
    world = World(password="x", consults=tuple(secrets))
    await witnesses.open(["http://127.0.0.1:1"], world, needs, (sys.executable, "-c", program))
    await witnesses.begin(time.time())
    await witnesses.close()
    assert [one.problem for one in witnesses.seen] == problems
    assert sum("joined" not in line for line in told) == sum(map(bool, problems))


def test_witnesses_have_tables_of_their_own_and_are_in_no_figure_of_the_sessions() -> None:
    watched, away = Seen("chromium-0", "load-0"), Seen("chromium-1", "load-1", problem="<no browser>")
    for at in range(3):
        watched.look(at, told(at, clickToFirstFrameMs=640.0, forward_ms=[4.0], event_ms=[9.0]))
    planned = timetable(scenario := read_scenario("steady_hub"))
    alone = Record(scenario, planned, started_s=1_000.0, ended_s=1_090.0)
    alone.totals.add("forward_ms", 1.5)
    together = Record(scenario, planned, started_s=1_000.0, ended_s=1_090.0, witnesses=[watched, away])
    together.totals.add("forward_ms", 1.5)
    before, after = (summarise(one, same_host=True) for one in (alone, together))
    assert after.distributions == before.distributions
    assert after.derived == before.derived
    assert after.valid == before.valid
    assert [one.problem for one in after.witnesses] == ["", "<no browser>"]
    assert "chromium-1 did not take part to the end: <no browser>." in " ".join(after.notes)
    shown = witness_table.html(after)
    assert "&lt;no browser&gt;" in shown
    assert "<no browser>" not in shown
    assert "first_picture_ms" in shown
    assert "| forward_ms | 4 | 4 | 1.5 | 1.5 |" in witness_table.markdown(after)
    assert "witness chromium-1: <no browser>" in witness_table.told(after)
    assert witness_table.html(before) == ""
    assert not witness_table.markdown(before)
