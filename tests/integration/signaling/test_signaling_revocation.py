"""A right that ends while its socket is open: the session ends with it, whatever the client does. [SE12]"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from signaling_hub import Hub, MakeClient, MakeHub, MakeRaw

from signaling.aio.gateway import GatewaySettings
from signaling.aio.service import ServiceSettings
from signaling.core.admission import Admission
from signaling.core.ids import ParticipantId
from tests.signaling_kit import admission, until


def of(*names: str) -> Callable[[Admission], bool]:
    return lambda admitted: admitted.participant in names


async def test_a_dropped_session_hears_why_and_everything_of_it_goes(hub: Hub, make_client: MakeClient) -> None:
    """[SE12] At once: no minute of grace, and the relay stops sending to it."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await b.ok(type="create_transport", direction="recv")

    hub.gateway.drop(of("b"))

    await b.disconnected.wait()
    assert b.goodbyes() == ["removed"]
    assert (await a.heard("participant_left"))["participant"] == "b"
    await until(lambda: hub.media.released == ["b"])
    assert ParticipantId("b") not in (await hub.state()).participants
    assert await a.ok(type="take_lead") == {}


async def test_a_client_that_ignores_the_goodbye_is_cut(make_hub: MakeHub, make_raw: MakeRaw) -> None:
    """[SE12] Nothing depends on what the dropped client does; nothing it had queued takes effect."""
    hub = await make_hub(gateway=GatewaySettings(goodbye_s=0.2))
    raw = await make_raw(hub, "b")
    await raw.packet(2, ["command", {"type": "join"}], 1)
    await raw.ack(1)

    hub.gateway.drop(of("b"))
    with contextlib.suppress(ConnectionError):  # it is cut somewhere among these
        for number in range(2, 20):
            await raw.packet(2, ["command", {"type": "open_context", "patient": "p1"}], number)

    await raw.closed.wait()
    assert (await hub.state()).context is None
    await until(lambda: hub.gateway.sessions == 0)


async def test_a_session_that_has_not_joined_is_dropped_too(hub: Hub, make_client: MakeClient) -> None:
    b = await make_client(hub, "b", join=False)
    hub.gateway.drop(of("b"))
    await b.disconnected.wait()
    assert b.goodbyes() == ["removed"]


async def test_whoever_is_dropped_while_joining_does_not_stay(hub: Hub, make_client: MakeClient) -> None:
    """The commit may come after the goodbye: the participant must not be left behind in the consult."""
    b, opened, gate = await make_client(hub, "b", join=False), asyncio.Event(), asyncio.Event()
    commit = hub.store.commit

    async def slow(*args: object) -> None:
        opened.set()
        await gate.wait()
        await commit(*args)  # type: ignore[arg-type]

    hub.store.commit = slow  # type: ignore[method-assign]
    joining = asyncio.create_task(b.command(type="join"))
    await opened.wait()
    hub.gateway.drop(of("b"))
    gate.set()
    hub.store.commit = commit  # type: ignore[method-assign]

    await b.disconnected.wait()
    joining.cancel()
    await until(lambda: hub.gateway.sessions == 0 and not hub.service.admitted)
    assert (await hub.state()).participants == {}


async def test_what_the_relay_makes_for_someone_who_is_gone_meanwhile_goes_too(
    hub: Hub, make_client: MakeClient
) -> None:
    """[ME9] The answer comes after everything of the participant was released: nobody would ever close it."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    hub.media.gate = asyncio.Event()
    asking = asyncio.create_task(b.command(type="create_transport", direction="recv"))
    await until(lambda: hub.media.calls)
    hub.service.dismiss(of("b"))  # as when another node has removed it: the answer is still owed
    await a.heard("participant_left")
    await until(lambda: hub.media.released == ["b"])
    hub.media.gate.set()
    assert (await asking)["refusal"]["code"] == "not_joined"
    await until(lambda: hub.gateway.sessions == 1)
    assert hub.media.owned == {}


async def test_whoever_lost_the_socket_is_dropped_without_waiting_for_the_grace_to_end(
    hub: Hub, make_client: MakeClient
) -> None:
    """[SE12] Media goes on during the grace time (SE3): a right that ends must end that as well."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await b.ok(type="create_transport", direction="recv")
    await b.sio.disconnect()
    await a.heard("connection_changed")
    assert [one.participant for one in hub.gateway.admissions] == ["a", "b"]

    hub.gateway.drop(of("b"))

    await a.heard("participant_left")
    await until(lambda: hub.media.released == ["b"])
    assert [one.participant for one in hub.gateway.admissions] == ["a"]


async def test_another_right_of_the_same_participant_stays(hub: Hub, make_client: MakeClient) -> None:
    """Signed in on two machines: signing out on the one leaves the other in the consult."""
    old = await make_client(hub, "a")
    first = hub.gateway.admissions[0]
    new = await make_client(hub, "a")
    await old.disconnected.wait()

    hub.gateway.drop(lambda admitted: admitted is first)

    await new.ok(type="take_lead")
    assert old.goodbyes() == ["replaced"]


async def test_the_session_on_another_node_ends_with_its_participant(
    make_hub: MakeHub, make_client: MakeClient
) -> None:
    """[SE12] A node that has only the participant's former right removes it for all nodes."""
    nodes = ServiceSettings(sole_node=False, beat_s=0.1)
    one = await make_hub(service=nodes)
    two = await make_hub(service=nodes, store=one.store)
    a, b = await make_client(one, "a"), await make_client(two, "b")
    two.gateway.drop(of("b"))
    assert (await a.heard("participant_left"))["participant"] == "b"
    await b.disconnected.wait()


async def test_the_right_is_not_told_to_anyone(hub: Hub, make_client: MakeClient) -> None:
    secret = admission("b").model_copy(update={"grant": "person:credential"})
    a, b = await make_client(hub, "a"), await make_client(hub, "b", join=False)
    hub.gateway.drop(of("b"))
    await b.disconnected.wait()
    c = type(b)(hub)
    await c.connect({"token": hub.token(secret), "protocol": 1})
    joined = await c.ok(type="join")
    await a.heard("participant_joined")
    assert "credential" not in str(joined) + str(a.events) + str(a.signals)
    await c.sio.disconnect()


async def test_a_join_whose_socket_is_lost_during_the_commit_leaves_nobody_behind(
    make_hub: MakeHub, make_client: MakeClient
) -> None:
    """[SE3] [SE4] A commit cannot be called back: whoever is in by it has lost the socket, like anybody else."""
    hub = await make_hub(service=ServiceSettings(beat_s=0.1, grace_s=0.3))
    watching = await make_client(hub, "a")
    b, opened, gate = await make_client(hub, "b", join=False), asyncio.Event(), asyncio.Event()
    commit = hub.store.commit

    async def slow(*args: object) -> None:
        if not opened.is_set():
            await commit(*args)  # type: ignore[arg-type] # written, but the answer takes its time
            opened.set()
            await gate.wait()
            return
        await commit(*args)  # type: ignore[arg-type]

    hub.store.commit = slow  # type: ignore[method-assign]
    joining = asyncio.create_task(b.command(type="join"))
    await opened.wait()
    await b.sio.disconnect()
    await until(lambda: hub.gateway.sessions == 1)
    gate.set()
    joining.cancel()
    await watching.heard("participant_left")
    assert list((await hub.state()).participants) == ["a"]
