"""How a peer is found, moves, restarts and ends: ICE, DTLS roles, and what the worker says about it."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aioice import stun

from media.aio.supervisor import PortTaken, Supervisor, WorkerSettings
from media.core import ortc, rtcp
from media.core.control import FrameReader, MediaError, MediaErrorCode
from tests.integration.media.conftest import RunningWorker
from tests.integration.media.peer import VIDEO_PT, VIDEO_SSRC, Peer, build_rtp, until, video_parameters, vp8

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def open_pair(worker: RunningWorker, **join: Any) -> tuple[Peer, Peer]:
    await worker.client.open_router("r")
    publisher, viewer = Peer(worker.client, "r", "send"), Peer(worker.client, "r", "recv")
    await publisher.join(**join)
    await viewer.join()
    await worker.client.produce(publisher.id, "cam", "video", video_parameters())
    await worker.client.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    await worker.client.resume_consumer("view")
    return publisher, viewer


async def close(worker: RunningWorker, *peers: Peer) -> None:
    await worker.client.close_router("r")
    for peer in peers:
        await peer.close()


def frame(number: int, key: bool) -> bytes:
    return build_rtp(VIDEO_PT, number, number * 3000, VIDEO_SSRC, vp8(key, number))


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("handshake_first", [False, True])
async def test_both_dtls_roles(worker: RunningWorker, role: str, handshake_first: bool) -> None:
    """ORTC trap 17: a peer that is DTLS server, or starts before we know its fingerprint, connects and sends."""
    publisher, viewer = await open_pair(worker, dtls_role=role, handshake_first=handshake_first)

    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "a packet")

    await close(worker, publisher, viewer)


async def test_a_wrong_fingerprint_is_refused(worker: RunningWorker) -> None:
    """Someone else's certificate gets no keys, and the Transport is closed with a notification."""
    await worker.client.open_router("r")
    peer = Peer(worker.client, "r", "send")
    stranger = Peer(worker.client, "r", "send")
    peer.dtls_parameters = stranger.dtls_parameters  # type: ignore[method-assign]

    joining = asyncio.create_task(peer.join())
    await worker.until_count("dtls_failed", 1)
    await until(lambda: any(n.event == "transport_state" for n in worker.notifications), "news")
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)

    assert [(n.transport, n.state) for n in worker.notifications if n.event == "transport_state"] == [
        (peer.id, "closed")
    ]
    await close(worker, peer, stranger)


async def test_a_check_is_answered_with_the_address_it_came_from(worker: RunningWorker) -> None:
    publisher, viewer = await open_pair(worker)

    answer = await publisher.check(nominate=False)

    assert answer.message_class is stun.Class.RESPONSE
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == publisher.address
    assert answer.check_message_integrity(publisher.ice["password"].encode())
    await close(worker, publisher, viewer)


async def test_media_follows_the_nominated_address(worker: RunningWorker) -> None:
    """The viewer's port changes; media moves when it nominates, and a key frame is asked for (ORTC trap 15)."""
    publisher, viewer = await open_pair(worker)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "before the move")
    viewer.move()

    await viewer.check(nominate=True)
    await until(lambda: publisher.got.of(rtcp.Pli), "a PLI")
    publisher.send_rtp(frame(2, True))
    await until(lambda: len(viewer.got.rtp) == 2, "after the move")

    assert await worker.count("ice_moves") == 1
    await close(worker, publisher, viewer)


async def test_ice_restart_keeps_the_old_credentials_until_the_new_are_nominated(worker: RunningWorker) -> None:
    """ORTC trap 19: media flows on, the old ufrag is answered, then no more."""
    publisher, viewer = await open_pair(worker)
    old = viewer.ice
    new = await worker.client.restart_ice(viewer.id)
    assert new["usernameFragment"] != old["usernameFragment"]

    await viewer.check(nominate=True)
    viewer.move()
    viewer.ice = new
    await viewer.check(nominate=False)
    viewer.ice = old
    await viewer.check(nominate=False)
    viewer.ice = new
    await viewer.check(nominate=True)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "media on the new path, same keys")

    viewer.ice = old
    viewer.send_raw(bytes(viewer.check_message(True)))
    await worker.until_count("stun_unknown_ufrag", 1)
    await close(worker, publisher, viewer)


async def test_a_goodbye_closes_and_tells(worker: RunningWorker) -> None:
    """DTLS close_notify: the Transport, its Producer and the Consumers of it are gone, each with a notification."""
    publisher, viewer = await open_pair(worker)

    await publisher.close()
    await until(lambda: any(n.event == "producer_closed" for n in worker.notifications), "news")

    said = [n.model_dump(exclude={"router", "owner"}) for n in worker.notifications]
    assert {"event": "consumer_closed", "consumer": "view"} in said
    assert {"event": "producer_closed", "producer": "cam"} in said
    assert {"event": "transport_state", "transport": publisher.id, "state": "closed"} in said
    with pytest.raises(MediaError) as refused:
        await worker.client.resume_consumer("view")
    assert refused.value.code is MediaErrorCode.NOT_FOUND
    await close(worker, viewer)


async def test_the_worker_comes_back_on_its_port_after_sigkill() -> None:
    """The supervisor notices, restarts, calls back, and calls in flight fail instead of hanging."""
    back = asyncio.Event()

    async def restarted() -> None:
        back.set()

    supervisor = Supervisor(WorkerSettings(bind="127.0.0.1"), lambda note: None, restarted)
    await supervisor.start()
    try:
        port, pid = supervisor.port, supervisor.pid
        assert pid is not None
        await supervisor.client.open_router("r")
        os.kill(pid, signal.SIGKILL)
        gone = await calls_until_refused(supervisor)
        assert gone.code is MediaErrorCode.WORKER_GONE
        async with asyncio.timeout(90):
            await back.wait()

        assert supervisor.port == port
        assert supervisor.pid != pid
        assert (await supervisor.client.stats())["routers_now"] == 0
    finally:
        await supervisor.stop()


async def test_a_port_in_use_is_said_at_once(worker: RunningWorker) -> None:
    async def restarted() -> None: ...

    second = Supervisor(WorkerSettings(bind="127.0.0.1", port=worker.supervisor.port), lambda note: None, restarted)
    with pytest.raises(PortTaken, match=f"media port {worker.supervisor.port} on 127.0.0.1"):
        await second.start()


async def test_a_standby_takes_over() -> None:
    """The replacement was loaded before it was needed, and another is loaded after it."""
    back = asyncio.Event()

    async def restarted() -> None:
        back.set()

    settings = WorkerSettings(bind="127.0.0.1", standby_after_s=0)
    supervisor = Supervisor(settings, lambda note: None, restarted)
    await supervisor.start()
    try:
        port = supervisor.port
        for _ in range(2):
            async with asyncio.timeout(100):
                spare = supervisor._loader._spare
                assert spare is not None
                loaded = await asyncio.shield(spare)
                assert supervisor.pid is not None
                os.kill(supervisor.pid, signal.SIGKILL)
                await back.wait()
                back.clear()
            assert supervisor.pid == loaded.process.pid
            assert supervisor.port == port
    finally:
        await supervisor.stop()


async def test_a_worker_that_hangs_is_replaced() -> None:
    """Stopped, not dead: it keeps its connection but answers nothing."""
    back = asyncio.Event()

    async def restarted() -> None:
        back.set()

    supervisor = Supervisor(WorkerSettings(bind="127.0.0.1"), lambda note: None, restarted)
    await supervisor.start()
    try:
        hung = supervisor.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        async with asyncio.timeout(100):
            await back.wait()
        assert supervisor.pid != hung
    finally:
        await supervisor.stop()


async def calls_until_refused(supervisor: Supervisor) -> MediaError:
    while True:
        try:
            await supervisor.client.stats()
        except MediaError as error:
            return error


@pytest.mark.parametrize("end", ["connection", "sigterm", "broken framing"])
async def test_the_worker_ends_by_itself(end: str, tmp_path: Path) -> None:
    """When its control connection closes or breaks, or on SIGTERM: exit code 0, nothing left behind."""
    path = tmp_path / "control"
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_unix_server(lambda r, w: accepted.put_nowait((r, w)), path)
    command = (sys.executable, "-m", "media.aio.worker", "--control", str(path), "--address", "127.0.0.1")
    process = await asyncio.create_subprocess_exec(*command)
    async with asyncio.timeout(90):
        reader, writer = await accepted.get()
        ready = next(FrameReader().feed(await reader.read(1000)))
        assert ready["note"]["event"] == "ready"
        match end:
            case "connection":
                writer.close()
            case "sigterm":
                process.terminate()
            case _:
                writer.write(b"\xff" * 8)
        assert await process.wait() == 0
    writer.close()
    server.close()


async def test_no_control_socket_is_an_exit_code(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "media.aio.worker", "--control", str(tmp_path / "none"), "--address", "::1")
    process = await asyncio.create_subprocess_exec(*command)
    async with asyncio.timeout(90):
        assert await process.wait() == 4


@pytest.mark.parametrize(("level", "says"), [(logging.INFO, True), (logging.WARNING, False)])
async def test_the_worker_logs_as_much_as_its_application(
    level: int, says: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """The demo prints addresses and logins, not the worker's daily business."""

    async def restarted() -> None:
        pass

    supervisor = Supervisor(WorkerSettings(bind="127.0.0.1", log_level=level), lambda note: None, restarted)
    await supervisor.start()
    await supervisor.stop()

    assert ("media.aio.worker" in capfd.readouterr().err) is says
