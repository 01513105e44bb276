"""Rights that end while their sockets are open, on the whole server: the sockets end too. [SE12]"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from server_hub import Browser
from server_seed import DEVICE_SECRET
from sqlalchemy import delete, update
from test_server_session import Socket, origin  # noqa: F401

from server import live
from server.storage.database import Database
from server.storage.models import ConsultMember, DeviceAccount, Person, ScreenCredential, WebSession
from tests.signaling_kit import until

Origin = tuple[str, Database]
SLOT = {"X-Wall-Slot": "1"}


class Live(Socket):
    """A socket that remembers what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[dict[str, Any]] = []
        self.goodbyes: list[str] = []
        self.gone = asyncio.Event()
        self.sio.on("event", self.heard.append)
        self.sio.on("signal", lambda s: self.goodbyes.append(s["reason"]) if s["type"] == "goodbye" else None)
        self.sio.on("disconnect", lambda *_: self.gone.set())

    def left(self, participant: str) -> bool:
        return any(e["type"] == "participant_left" and e["participant"] == participant for e in self.heard)


Enter = Callable[..., Awaitable[tuple[Live, str]]]


@pytest.fixture(autouse=True)
def hints_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must end at once is not helped by the timer."""
    monkeypatch.setattr(live, "EVERY_S", 1_000.0)


@pytest.fixture
def every_s(hints_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights are looked at again soon: for what nobody gave a hint about."""
    monkeypatch.setattr(live, "EVERY_S", 0.2)


@pytest.fixture
async def browser(origin: Origin) -> AsyncIterator[Callable[..., Awaitable[Browser]]]:  # noqa: F811
    opened: list[Browser] = []

    async def make(login: str | None = None) -> Browser:
        opened.append(Browser(origin[0]))
        if login is not None:
            await opened[-1].sign_in(login)
        return opened[-1]

    yield make
    for one in opened:
        await one.http.close()


@pytest.fixture
async def enter(origin: Origin) -> AsyncIterator[Enter]:  # noqa: F811
    """Join a consult; the socket and the participant's id."""
    sockets: list[Live] = []

    async def make(who: Browser, consult: str = "c1", **headers: str) -> tuple[Live, str]:
        status, issued = await who.post(f"/api/consults/{consult}/token", headers=headers)
        assert status == 200, issued
        sockets.append(Live())
        await sockets[-1].connect(origin[0], issued["token"])
        await sockets[-1].ok(type="join")
        return sockets[-1], issued["participant"]

    yield make
    for one in sockets:
        await one.sio.disconnect()


async def pair(doctor: Browser, wall: Browser, number: int = 1) -> None:
    _, pairing = await wall.post("/api/wall/pairing", headers=SLOT)
    claim = {"code": pairing["code"], "role": "record"}
    assert (await doctor.post(f"/api/stations/st1/screens/{number}/claim", claim))[0] == 204
    status, answer = await wall.post("/api/wall/pairing/status", {"secret": pairing["secret"]}, headers=SLOT)
    assert (status, answer) == (200, {"state": "claimed"})


async def test_signing_out_ends_the_consult_on_this_browser_and_no_other(browser: Any, enter: Enter) -> None:
    doctor, nurse = await browser("d1@hub"), await browser("n1@hub")
    (leaving, who), (staying, _) = await enter(doctor), await enter(nurse)

    assert (await doctor.send("DELETE", "/api/session"))[0] == 204

    await asyncio.wait_for(leaving.gone.wait(), 60)
    assert leaving.goodbyes == ["removed"]
    await until(lambda: staying.left(who))
    assert staying.goodbyes == []


async def test_a_guest_who_signs_out_is_gone(browser: Any, enter: Enter) -> None:
    doctor, guest = await browser("d1@hub"), await browser()
    _, made = await doctor.post("/api/consults/c1/invites", {"name": "Dr Guest"})
    token = made["url"].partition("#")[2]
    assert (await guest.post("/api/invites/redeem", {"token": token}))[0] == 200
    socket, _ = await enter(guest)
    assert (await guest.send("DELETE", "/api/session"))[0] == 204
    await asyncio.wait_for(socket.gone.wait(), 60)
    assert socket.goodbyes == ["removed"]


async def test_an_unpaired_display_is_gone_and_must_be_paired_again(browser: Any, enter: Enter) -> None:
    doctor, wall = await browser("d1@hub"), await browser()
    await pair(doctor, wall)
    socket, _ = await enter(wall, **SLOT)

    assert (await doctor.send("DELETE", "/api/stations/st1/screens/1"))[0] == 204

    await asyncio.wait_for(socket.gone.wait(), 60)
    assert socket.goodbyes == ["removed"]
    assert (await wall.get("/api/wall", headers=SLOT))[0] == 401


async def test_another_display_claimed_for_the_screen_ends_the_first_at_the_claim(browser: Any, enter: Enter) -> None:
    """Not only when the new display comes for its cookie: until then two walls would be one screen."""
    doctor, first, second = await browser("d1@hub"), await browser(), await browser()
    await pair(doctor, first)
    socket, _ = await enter(first, **SLOT)
    _, pairing = await second.post("/api/wall/pairing", headers=SLOT)
    claim = {"code": pairing["code"], "role": "ecg"}

    assert (await doctor.post("/api/stations/st1/screens/1/claim", claim))[0] == 204

    await asyncio.wait_for(socket.gone.wait(), 60)
    assert socket.goodbyes == ["removed"]
    assert (await first.get("/api/wall", headers=SLOT))[0] == 401


ENDS = {
    "account closed": update(Person).where(Person.id == "n1").values(active=False),
    "membership taken back": delete(ConsultMember).where(ConsultMember.subject_id == "n1"),
    "role in the consult changed": update(ConsultMember).where(ConsultMember.subject_id == "n1").values(role="doctor"),
    "signed out on another node": update(WebSession).where(WebSession.person_id == "n1").values(revoked=True),
}


@pytest.mark.usefixtures("every_s")
@pytest.mark.parametrize("statement", ENDS.values(), ids=ENDS.keys())
async def test_what_ends_without_a_hint_is_found(origin: Origin, browser: Any, enter: Enter, statement: Any) -> None:  # noqa: F811
    """A right that ends in the database only, as on another node, ends its sockets here."""
    doctor, nurse = await browser("d1@hub"), await browser("n1@hub")
    (staying, _), (leaving, who) = await enter(doctor), await enter(nurse)

    async with origin[1].write() as session:
        await session.execute(statement)

    await asyncio.wait_for(leaving.gone.wait(), 60)
    assert leaving.goodbyes == ["removed"]
    await until(lambda: staying.left(who))
    assert staying.goodbyes == []


@pytest.mark.usefixtures("every_s")
async def test_displays_and_devices_are_looked_at_too(origin: Origin, browser: Any, enter: Enter) -> None:  # noqa: F811
    doctor, wall = await browser("d1@hub"), await browser()
    await pair(doctor, wall)
    display, _ = await enter(wall, **SLOT)
    device, _ = await enter(await browser(), Authorization=f"Bearer {DEVICE_SECRET}")
    async with origin[1].write() as session:
        await session.execute(update(ScreenCredential).values(revoked=True))
        await session.execute(update(DeviceAccount).values(active=False))
    for socket in (display, device):
        await asyncio.wait_for(socket.gone.wait(), 60)
        assert socket.goodbyes == ["removed"]


@pytest.mark.usefixtures("every_s")
async def test_time_alone_throws_nobody_out_of_a_running_consult(origin: Origin, browser: Any, enter: Enter) -> None:  # noqa: F811
    """[G3] The shift is over: no new socket, but picture and trace of the running consult stay."""
    doctor, nurse = await browser("d1@hub"), await browser("n1@hub")
    (staying, _), (leaving, _) = await enter(doctor), await enter(nurse)
    async with origin[1].write() as session:
        await session.execute(update(WebSession).where(WebSession.person_id == "d1").values(expires_at_ms=1))
        await session.execute(update(WebSession).where(WebSession.person_id == "n1").values(revoked=True))
    await asyncio.wait_for(leaving.gone.wait(), 60)  # rights were looked at
    await staying.ok(type="take_lead")
    assert staying.goodbyes == []
    assert (await doctor.post("/api/consults/c1/token"))[0] == 401
