"""A client nobody here wrote joins the consult: pymediasoup through sign-in, token, socket and relay."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Literal

import numpy as np
import socketio
from server_hub import Browser
from test_server_session import origin  # noqa: F401 - the fixture of a whole running server

from server.storage.database import Database
from tests.integration.media.foreign import TONE_HZ, ForeignClient, MovingPicture, Tone, frames


class SignalledMedia:
    """The worker's calls, asked for over signalling; ids are the server's, so names are translated."""

    def __init__(self, names: dict[str, str]) -> None:
        self._socket = socketio.AsyncClient(serializer="msgpack", reconnection=False)
        self._names = names
        self.capabilities: dict[str, Any] = {}

    async def join(self, address: str, login: str) -> None:
        browser = Browser(address)
        await browser.sign_in(login)
        _, issued = await browser.post("/api/consults/c1/token")
        await browser.http.close()
        auth = {"token": issued["token"], "protocol": 1}
        await self._socket.connect(address, auth=auth, transports=["websocket"], wait_timeout=60)
        self.capabilities = (await self.ask(type="join"))["router_rtp_capabilities"]

    async def ask(self, **command: Any) -> dict[str, Any]:
        ack = await self._socket.call("command", command, timeout=60)
        assert ack["ok"], ack
        return dict(ack["result"] or {})

    async def leave(self) -> None:
        await self._socket.disconnect()

    async def create_transport(
        self, _router: str, name: str, _owner: str, direction: Literal["send", "recv"]
    ) -> dict[str, Any]:
        options = await self.ask(type="create_transport", direction=direction)
        self._names[name] = options["id"]
        return options

    async def connect_transport(self, name: str, parameters: dict[str, Any]) -> None:
        await self.ask(type="connect_transport", transport=self._names[name], dtls_parameters=parameters)

    async def produce(self, transport: str, name: str, kind: str, parameters: dict[str, Any]) -> None:
        source = "camera" if kind == "video" else "microphone"
        made = await self.ask(
            type="produce", transport=self._names[transport], kind=kind, rtp_parameters=parameters, source=source
        )
        self._names[name] = made["producer"]

    async def consume(self, transport: str, name: str, producer: str, capabilities: dict[str, Any]) -> dict[str, Any]:
        made = await self.ask(
            type="consume", transport=transport, producer=self._names[producer], rtp_capabilities=capabilities
        )
        self._names[name] = made["consumer"]
        return made

    async def resume_consumer(self, name: str) -> None:
        await self.ask(type="resume_consumer", consumer=self._names[name])


async def test_pymediasoup_publishes_and_receives_in_a_consult(origin: tuple[str, Database]) -> None:  # noqa: F811
    """Both ways at once: two foreign clients see and hear each other, and what arrives decodes."""
    names: dict[str, str] = {}
    media = [SignalledMedia(names), SignalledMedia(names)]
    await asyncio.gather(*(one.join(origin[0], login) for one, login in zip(media, ("d1@hub", "n1@hub"), strict=True)))
    clients = [ForeignClient(one, "c1", one.capabilities) for one in media]  # type: ignore[arg-type]
    for client in clients:
        picture, tone = MovingPicture(), Tone()
        await client.join([picture, tone])
        await client.send.produce(track=picture)
        await client.send.produce(track=tone)

    for viewer, publisher in (clients, reversed(clients)):
        video = await viewer.consume(publisher.produced[0])
        audio = await viewer.consume(publisher.produced[1])
        pictures, sounds = await asyncio.gather(frames(video.track, 10), frames(audio.track, 60))
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in pictures]
        assert shown[0].shape == (240, 320, 3)
        assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(shown))
        heard = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in sounds[20:]]).astype(float)
        spectrum = np.abs(np.fft.rfft(heard))
        assert abs(np.argmax(spectrum) * sounds[0].sample_rate / len(heard) - TONE_HZ) < 10

    for client, one in zip(clients, media, strict=True):
        await client.close()
        await one.leave()
