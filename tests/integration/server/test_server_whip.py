"""WHIP with a foreign publisher: aiortc's peer connection, seen and heard by a foreign viewer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import socketio
from aiortc import RTCPeerConnection, RTCSessionDescription
from server_hub import Browser, quiet_port
from server_seed import fill
from test_server_interop import SignalledMedia

from server.api.services import SERVICES
from server.api.whip import SESSIONS
from server.app import open_database
from server.lifecycle import serving
from server.settings import load_settings
from server.storage.models import ConsultMember
from server.storage.seeding import add_device_account
from signaling.core.model import Role
from tests.integration.media.foreign import TONE_HZ, ForeignClient, MovingPicture, Tone, frames

WAIT_S = 60.0
ENCODER_SECRET = "e" * 43
SDP = "application/sdp"
VECTORS = Path(__file__).parents[2] / "vectors" / "whip"


class Room:
    """A running server with one consult, and how its HTTP side is asked."""

    def __init__(self, origin: str, app: Any) -> None:
        self.origin = origin
        self.app = app
        self.http = aiohttp.ClientSession(origin)

    @property
    def services(self) -> Any:
        return self.app[SERVICES]

    async def token(self, login: str) -> str:
        browser = Browser(self.origin)
        await browser.sign_in(login)
        _, issued = await browser.post("/api/consults/c1/token")
        await browser.http.close()
        return str(issued["token"])

    async def ask(
        self, method: str, path: str, key: str | None, body: str = "", kind: str = SDP, **headers: str
    ) -> tuple[int, str, Any]:
        given = {"Content-Type": kind, **headers} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        async with self.http.request(method, path, data=body.encode(), headers=given) as answer:
            return answer.status, await answer.text(), answer.headers

    async def publish(self, key: str, offer: str) -> tuple[int, str, Any]:
        return await self.ask("POST", "/api/consults/c1/whip", key, offer)

    async def participants(self) -> dict[str, Any]:
        return dict((await self.services.store.load("c1")).participants)

    async def producers(self) -> list[Any]:
        return list((await self.services.store.load("c1")).producers.values())


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    settings = load_settings({}, data_dir=tmp_path / "data", port=quiet_port(), media_port=0)
    database = await open_database(settings)
    await fill(database)
    async with database.write() as session:
        await add_device_account(
            session,
            id="encoder",
            hospital="north",
            name="Encoder",
            role=Role.ROOM,
            secret=ENCODER_SECRET,
            simulated=False,
        )
        session.add(ConsultMember(consult_id="c1", kind="device", subject_id="encoder", role=Role.ROOM.value))
    await database.close()
    async with serving(settings) as app:
        running = Room(f"http://127.0.0.1:{settings.port}", app)
        yield running
        await running.http.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():
            await asyncio.sleep(0.02)
    assert await condition(), what


class Publisher:
    """aiortc as it comes, with HTTP around it."""

    def __init__(self, room: Room, key: str) -> None:
        self.room, self.key = room, key
        self.connection = RTCPeerConnection()
        self.location = ""
        self.etag = ""

    async def offer(self) -> str:
        for track in (MovingPicture(), Tone()):
            self.connection.addTransceiver(track, direction="sendonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def publish(self) -> None:
        status, answer, headers = await self.room.publish(self.key, await self.offer())
        assert (status, headers["Content-Type"]) == (201, SDP), answer
        self.location, self.etag = headers["Location"], headers["ETag"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def delete(self) -> int:
        return (await self.room.ask("DELETE", self.location, self.key))[0]


@pytest.fixture
async def publisher(room: Room) -> AsyncIterator[Publisher]:
    one = Publisher(room, ENCODER_SECRET)
    yield one
    await one.connection.close()


async def test_a_viewer_sees_and_hears_an_encoder(room: Room, publisher: Publisher) -> None:
    """The others are told as of any participant; picture and sound decode; DELETE takes all of it away."""
    names: dict[str, str] = {}
    media = SignalledMedia(names)
    told: list[dict[str, Any]] = []
    media._socket.on("event", told.append)
    await media.join(room.origin, "d1@hub")
    viewer = ForeignClient(media, "c1", media.capabilities)  # type: ignore[arg-type]
    await viewer.join([])
    await publisher.publish()

    def added() -> dict[str, dict[str, Any]]:
        return {e["producer"]["kind"]: e["producer"] for e in told if e["type"] == "producer_added"}

    async with asyncio.timeout(WAIT_S):
        while len(added()) < 2:
            await asyncio.sleep(0.02)
    me = next(
        e["participant"] for e in told if e["type"] == "participant_joined" and e["participant"]["role"] == "room"
    )
    assert {(p["participant"], p["source"]) for p in added().values()} == {
        (me["id"], "camera"),
        (me["id"], "microphone"),
    }
    names |= {kind: producer["id"] for kind, producer in added().items()}
    video, audio = await viewer.consume("video"), await viewer.consume("audio")
    pictures, sounds = await asyncio.gather(frames(video.track, 5), frames(audio.track, 40))
    assert pictures[0].to_ndarray(format="rgb24").shape == (240, 320, 3)
    heard = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in sounds[20:]]).astype(float)
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(np.argmax(spectrum) * sounds[0].sample_rate / len(heard) - TONE_HZ) < 25

    assert await publisher.delete() == 200
    assert me["id"] not in await room.participants()
    assert await room.producers() == []
    assert await publisher.delete() == 404
    assert len(room.app[SESSIONS]) == 0
    await viewer.close()
    await media.leave()


async def test_what_is_refused_leaves_nothing_behind(room: Room) -> None:
    """Each with its own status; a token that was not good for it is not spent by a bad offer."""
    offer = (VECTORS / "chromium.sdp").read_text()
    post = "/api/consults/c1/whip"
    nurse = await room.token("n1@hub")
    asked = [
        (await room.ask("POST", post, None, offer), 403),  # the guard: neither page nor bearer
        (await room.ask("POST", post, "x" * 43, offer), 401),
        (await room.ask("POST", post, "a.b.c", offer), 401),
        (await room.ask("POST", post, nurse, offer, "application/json"), 415),
        (await room.ask("POST", post, nurse, "v=1"), 400),
        (await room.ask("POST", post, nurse, offer.replace("a=sendonly", "a=recvonly")), 406),
        (await room.ask("POST", post, nurse, "v=0\n" + "a=x\n" * 20_000), 413),
        (await room.ask("POST", "/api/consults/c2/whip", ENCODER_SECRET, offer), 404),
        (await room.ask("POST", "/api/consults/c3/whip", ENCODER_SECRET, offer), 404),
        (await room.ask("POST", post, "s" * 43, offer), 403),  # a monitor sends no pictures
        (await room.ask("GET", post, nurse), 405),
        (await room.ask("DELETE", "/api/whip/nobody", nurse), 404),
        (await room.ask("PATCH", "/api/whip/nobody", nurse, "", "application/trickle-ice-sdpfrag"), 404),
        (await room.ask("OPTIONS", post, None), 204),
    ]
    assert [answer[0] for answer, _ in asked] == [status for _, status in asked], [a[1] for a, _ in asked]
    assert asked[-1][0][2]["Accept-Post"] == SDP
    assert await room.participants() == {}
    assert len(room.app[SESSIONS]) == 0

    assert (await room.ask("POST", "/api/consults/c2/whip", nurse, offer))[0] == 404
    assert (await room.publish(nurse, offer))[0] == 401, "a token is good for one attempt"
    assert (await room.publish(await room.token("n1@hub"), offer))[0] == 201


async def test_patch_takes_candidates_and_restarts_ice(room: Room) -> None:
    status, answer, headers = await room.publish(ENCODER_SECRET, (VECTORS / "obs.sdp").read_text())
    assert status == 201, answer
    where, etag = headers["Location"], headers["ETag"]

    async def patch(ufrag: str, key: str = ENCODER_SECRET, **given: str) -> tuple[int, str, Any]:
        body = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{'p' * 24}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        return await room.ask("PATCH", where, key, body, "application/trickle-ice-sdpfrag", **given)

    assert (await patch("eJM5", **{"If-Match": etag}))[0] == 204
    assert (await patch("eJM5"))[0] == 428
    assert (await patch("eJM5", **{"If-Match": '"other"'}))[0] == 412
    assert (await patch("eJM5", "x" * 43, **{"If-Match": etag}))[0] == 404
    assert (await patch("new1", **{"If-Match": etag}))[0] == 412
    status, fragment, headers = await patch("new1", **{"If-Match": "*"})
    assert (status, headers["Content-Type"]) == (200, "application/trickle-ice-sdpfrag")
    assert headers["ETag"] != etag
    assert "a=candidate:" in fragment
    ours = [line for line in answer.splitlines() if line.startswith("a=ice-ufrag:")]
    assert not set(ours) & set(fragment.splitlines()), "the credentials are fresh"
    assert (await patch("new1", **{"If-Match": headers["ETag"]}))[0] == 204
    assert (await room.ask("PATCH", where, ENCODER_SECRET, "", SDP))[0] == 415
    assert (await room.ask("DELETE", where, ENCODER_SECRET))[0] == 200


async def test_a_publisher_ends_with_its_right(room: Room, publisher: Publisher) -> None:
    """[SE12] The account is closed: participant and media are gone, and the encoder is told at its next request."""
    await publisher.publish()
    async with room.services.database.write() as session:
        await session.delete(await session.get(ConsultMember, ("c1", "device", "encoder")))
    await room.services.live._look_again()

    async def gone() -> bool:
        return await room.participants() == {} and len(room.app[SESSIONS]) == 0

    await until(gone, "the publisher is out")
    assert await publisher.delete() == 404


async def test_who_publishes_anew_replaces_what_was_there(room: Room, publisher: Publisher) -> None:
    """[SE15] The old one cannot be told: its sources and its Transport end with the new one's first commit."""
    await publisher.publish()
    before = {p.id for p in await room.producers()}
    status, _, headers = await room.publish(ENCODER_SECRET, (VECTORS / "gstreamer.sdp").read_text())
    assert status == 201
    now = {p.id for p in await room.producers()}
    assert len(now) == 2
    assert not now & before
    assert len(await room.participants()) == 1
    assert await publisher.delete() == 404
    assert {p.id for p in await room.producers()} == now, "a late DELETE of the old one touches nothing"
    assert (await room.ask("DELETE", headers["Location"], ENCODER_SECRET))[0] == 200
    assert await room.producers() == []


async def test_a_page_that_takes_over_ends_what_the_encoder_sends(room: Room, publisher: Publisher) -> None:
    """[SE15] The page has sent nothing yet: with its join the encoder's sources, Transport and session are gone."""
    await publisher.publish()
    media: Any = room.app[SESSIONS]._service._here.media._media
    assert (await media.stats())["transports_now"] == 1
    headers = {"Authorization": f"Bearer {ENCODER_SECRET}"}
    async with room.http.post("/api/consults/c1/token", json={}, headers=headers) as answer:
        issued = await answer.json()
    page = socketio.AsyncClient(serializer="msgpack", reconnection=False)
    auth = {"token": issued["token"], "protocol": 1}
    await page.connect(room.origin, auth=auth, transports=["websocket"], wait_timeout=60)
    joined = (await page.call("command", {"type": "join"}, timeout=60))["result"]
    assert joined["snapshot"]["producers"] == {}
    assert list(joined["snapshot"]["participants"]) == [issued["participant"]]
    assert (await media.stats())["transports_now"] == 0
    assert await publisher.delete() == 404
    assert list(await room.participants()) == [issued["participant"]], "the page stays"
    await page.disconnect()


async def test_a_publisher_whose_media_is_gone_leaves(room: Room, publisher: Publisher) -> None:
    """The worker is replaced: an encoder cannot be told to make a new Transport, so its session is over."""
    await publisher.publish()
    service: Any = room.app[SESSIONS]._service
    await service.news.media_reset("c1")

    async def gone() -> bool:
        return await room.participants() == {}

    await until(gone, "the publisher is out")
    assert await publisher.delete() == 404
    again = Publisher(room, ENCODER_SECRET)
    await again.publish()
    assert len(await room.producers()) == 2
    await again.delete()
    await again.connection.close()


async def test_consent_lost_ends_the_session(room: Room, publisher: Publisher) -> None:
    """What the relay says after 30 s of silence, said here at once."""
    await publisher.publish()
    (who,) = await room.participants()
    service: Any = room.app[SESSIONS]._service
    await service.news.producers_closed("c1", who)

    async def gone() -> bool:
        return await room.participants() == {}

    await until(gone, "the publisher is out")
    assert await publisher.delete() == 404
