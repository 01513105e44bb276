"""The bedside client: what pymediasoup gets wrong is put right, and nobody is hammered."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiortc import RTCConfiguration, RTCPeerConnection
from pydantic import ValidationError

from server.bedside.client import LONGEST_PAUSE_S, Assignment, Signalling, _Handler, _Pause, perform
from server.bedside.station import _is_carried as is_carried
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Binding, Consult, Context
from tests.signaling_kit import patient as patient_of_kit


@pytest.mark.parametrize(("ordered", "retransmits"), [(False, 0), (True, None)])
async def test_a_channel_sends_as_it_was_announced(ordered: bool, retransmits: int | None) -> None:
    """ORTC.md trap 25: the library announces maxRetransmits and then sends reliably."""
    handler = _Handler()
    handler._direction, handler._hasDataChannelMediaSection = "send", True
    handler._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        made = await handler.sendDataChannel(label="ecg", ordered=ordered, maxRetransmits=retransmits)
        assert made.dataChannel.maxRetransmits == retransmits
        assert made.dataChannel.ordered is ordered
        assert made.sctpStreamParameters.maxRetransmits == retransmits
        assert "createDataChannel" not in vars(handler._pc), "the library's own method is back"
    finally:
        await handler.close()


async def test_a_busy_hub_is_asked_again_when_it_said() -> None:
    """[SE16]"""
    asked_s: list[float] = []

    async def token(_request: web.Request) -> web.Response:
        asked_s.append(asyncio.get_running_loop().time())
        code, status = ("too_busy", 503) if len(asked_s) == 1 else ("consult_ended", 410)
        return web.json_response({"error": {"code": code}}, status=status, headers={"Retry-After": "1"})

    async def nothing(*_: object) -> None:
        raise AssertionError("nobody is in")

    app = web.Application()
    app.router.add_post("/api/consults/c/token", token)
    async with TestServer(app, host="127.0.0.1") as hub, asyncio.timeout(60):
        await perform(Assignment(origin=f"http://127.0.0.1:{hub.port}", consult="c", secret="x"), nothing)
    assert len(asked_s) == 2
    assert asked_s[1] - asked_s[0] >= 1


async def test_attempts_that_do_not_hold_come_less_and_less_often() -> None:
    pause = _Pause()
    waits = []
    for _ in range(12):
        pause.begin()
        waits.append(pause.next_s())
    assert waits[0] < 0.15
    assert all(later > earlier for earlier, later in zip(waits[:5], waits[2:7], strict=True))
    assert 0.7 * LONGEST_PAUSE_S < waits[-1] < 1.3 * LONGEST_PAUSE_S


async def test_a_hole_in_the_revisions_is_noticed_and_nothing_is_taken_twice() -> None:
    """[CO4] An event that was missed is asked for; one that was seen changes nothing."""
    signalling = Signalling()
    signalling._take_snapshot(Consult(id=ConsultId("c"), title="t", revision=7, media_epoch=2))
    reset = {"type": "media_reset", "at_ms": 1, "media_epoch": 3}

    signalling._on_event({**reset, "revision": 9})
    assert signalling.media_epoch == 2
    assert signalling._holes.qsize() == 1

    signalling._on_event({**reset, "revision": 8})
    signalling._on_event({**reset, "revision": 8, "media_epoch": 99})
    assert (signalling.revision, signalling.media_epoch) == (8, 3)


@pytest.mark.parametrize("raw", [None, 7, {"type": "unheard_of", "revision": 1, "at_ms": 1}, {"revision": "x"}])
async def test_an_event_that_nobody_understands_ends_the_session(raw: object) -> None:
    """It may have been a context change: better to come again than to send under the wrong patient."""
    signalling = Signalling()
    signalling._on_event(raw)
    assert signalling.lost.is_set()


async def test_the_goodbye_of_an_ended_consult_is_understood() -> None:
    signalling = Signalling()
    signalling._on_signal({"type": "beat", "revision": 1})
    assert not signalling.lost.is_set()
    signalling._on_signal({"type": "goodbye", "reason": "ended"})
    assert signalling.ended
    await asyncio.wait_for(signalling.lost.wait(), 1)


def test_orders_with_anything_unknown_are_refused() -> None:
    with pytest.raises(ValidationError):
        Assignment.model_validate_json('{"origin": "http://x", "consult": "c", "secret": "s", "shell": "true"}')


async def test_a_binding_is_carried_to_the_version_of_an_anchor() -> None:
    """[AN2] A report is opened: the device stays bound, names the new version, and remembers who let go."""
    signalling = Signalling()
    patient = patient_of_kit("p1")
    bound = Binding(
        device=ParticipantId("monitor"),
        patient=patient.id,
        context_version=3,
        identifiers=patient.identifiers,
        bound_by=ParticipantId("doc"),
        bound_at_ms=0,
        until_ms=10**12,
    )
    context = Context(version=3, patient=patient, opened_at_ms=0, opened_by=ParticipantId("doc"))
    signalling._take_snapshot(Consult(id=ConsultId("c"), title="t", revision=7, context=context, context_version=3))
    signalling.binding, signalling.let_go = bound, 3
    anchor = {"resource_type": "DiagnosticReport", "id": "r1", "opened_at_ms": 1, "opened_by": "doc"}
    signalling._on_event({"type": "anchor_opened", "revision": 8, "at_ms": 1, "version": 4, "anchor": anchor})

    assert (signalling.context and signalling.context.version, signalling.binding.context_version) == (4, 4)
    assert signalling.let_go == 4
    assert is_carried(bound, signalling.binding)
    assert not is_carried(bound, bound)
    assert not is_carried(bound, None)
    assert not is_carried(bound, signalling.binding.model_copy(update={"until_ms": 5}))
