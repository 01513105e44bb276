"""MLLP over real sockets: against the MLLP client and server of another library, and with hostile bytes."""

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.mllp import open_hl7_connection, start_hl7_server

from media.sources import Block, PatientReport
from media.sources.oru import OruFolder
from server.gateway.adapters import waveform_spool
from server.gateway.adapters.counts import HELD_UP
from server.gateway.adapters.keepalive import keep_alive
from server.gateway.adapters.mllp_client import MllpSender, MllpTarget
from server.gateway.adapters.mllp_server import MllpListen, MllpServer
from server.gateway.adapters.settings import SettingsInvalid, build_adapter
from server.gateway.adapters.waveform_spool import is_in_memory
from server.gateway.core.crossing import FHIR_JSON, Crossing, DeliveryFailed, LockRefused, RefusalCode
from server.gateway.hl7v2.framing import Deframer, Framed, frame
from server.gateway.hl7v2.message import parse
from server.gateway.hl7v2.outgoing import Destination, control_id
from server.tls import make_authority
from tests.hl7v2_kit import MRN, NOW, PROFILE, PV1, SEEDS, Shelf, message

DEADLINE_S = 60
LISTEN = MllpListen(name="his", host="127.0.0.1", port=0)


@contextlib.asynccontextmanager
async def serving(shelf: Shelf, listen: MllpListen = LISTEN) -> AsyncIterator[MllpServer]:
    server = MllpServer(listen, PROFILE, now=lambda: NOW)
    task = asyncio.create_task(server.run(shelf))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await server.listening.wait()
            yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Raw:
    """A sender that writes any bytes and reads whole answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self._deframer = reader, writer, Deframer(10**6)
        self._waiting: list[Any] = []

    @classmethod
    async def connect(cls, server: MllpServer) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def ask(self, data: bytes) -> str:
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> str:
        """``AA C1``; empty when the connection ended."""
        while not self._waiting:
            data = await self.reader.read(65536)
            if not data:
                return ""
            self._waiting += self._deframer.feed(data)
        found = self._waiting.pop(0)
        assert isinstance(found, Framed)
        msa = next(line for line in found.body.decode().split("\r") if line.startswith("MSA")).split("|")
        return f"{msa[1]} {msa[2]}"

    def close(self) -> None:
        self.writer.close()


async def test_a_foreign_client_sends_every_message_and_each_is_kept_before_its_aa() -> None:
    shelf = Shelf()
    async with serving(shelf) as server:
        reader, writer = await open_hl7_connection("127.0.0.1", server.port, encoding="utf-8")
        for number, seed in enumerate(SEEDS, 1):
            writer.writemessage(hl7.parse(seed.decode().replace("|C1|", f"|S{number}|")))
            await writer.drain()
            ack = await reader.readmessage()
            assert [str(field) for field in ack.segment("MSA")[1:3]] == ["AA", f"S{number}"]
            assert len(shelf.kept) == number, "AA only after it is kept"
        writer.close()
    assert [one.kind for one in shelf.kept][:5] == ["ADT^A01", "ADT^A02", "ADT^A03", "ADT^A40", "ORU^R01"]


async def test_a_repeat_is_answered_alike_and_kept_once() -> None:
    shelf = Shelf()
    async with serving(shelf) as server:
        sender = await Raw.connect(server)
        assert [await sender.ask(frame(message("ADT^A08"))) for _ in range(3)] == ["AA C1"] * 3
        sender.close()
    assert len(shelf.kept) == 1


async def test_hostile_framing_on_one_connection_never_loses_the_next_good_message() -> None:
    shelf = Shelf()
    async with serving(shelf, replace(LISTEN, max_message_bytes=100_000)) as server:
        sender = await Raw.connect(server)
        good = [message("ADT^A08", PV1, control=f"G{n}") for n in range(8)]
        assert await sender.ask(b"\x00garbage\xff" + frame(good[0])) == "AA G0"
        assert await sender.ask(frame(good[1]) + frame(good[2])) == "AA G1"
        assert await sender.answer() == "AA G2"
        assert await sender.ask(b"\x0b" + good[3] + b"\x1c" + frame(good[4])) == "AA G3", "FS without CR"
        assert await sender.answer() == "AA G4"
        assert await sender.ask(b"\x0b" + message("ADT^A08", control="HALF")[:90] + frame(good[5])) == "AR HALF"
        assert await sender.answer() == "AA G5"
        assert await sender.ask(frame(message("ADT^A08", "NTE|1||" + "x" * 200_000, control="BIG"))) == "AR BIG"
        assert await sender.ask(frame(b"GET / HTTP/1.1\r\n\r\n")) == "AR "
        assert await sender.ask(frame(message("ADT^A99", control="EV"))) == "AR EV"
        for byte in frame(good[6]):
            sender.writer.write(bytes([byte]))
            await sender.writer.drain()
        assert await sender.answer() == "AA G6"
        sender.close()
    assert [one.key.split("|")[3] for one in shelf.kept] == [f"G{n}" for n in range(7)]


async def test_ten_megabytes_are_refused_and_a_long_message_is_taken() -> None:
    shelf = Shelf()
    async with serving(shelf) as server:
        sender = await Raw.connect(server)
        obr = "OBR|1||F1|X^Y^L"
        assert await sender.ask(frame(message("ORU^R01", obr, "OBX|1|TX|X^Y^L||" + "x" * 10_000_000))) == "AR C1"
        assert (
            await sender.ask(frame(message("ORU^R01", obr, "OBX|1|TX|X^Y^L||" + "x" * 80_000, control="C2"))) == "AA C2"
        )
        sender.close()
    assert len(shelf.kept) == 1


@pytest.mark.parametrize(
    ("code", "answer"),
    [(RefusalCode.FULL, "AE C1"), (RefusalCode.UNAVAILABLE, "AE C1"), (RefusalCode.NOT_ALLOWED, "AR C1"),
     (RefusalCode.KEY_REUSED, "AR C1")],
)  # fmt: skip
async def test_what_the_lock_refuses_is_refused_to_the_sender(code: RefusalCode, answer: str) -> None:
    """A full queue is AE: the sender keeps the message and sends it again; then it is taken."""
    shelf = Shelf()
    shelf.refuse = LockRefused(code)
    async with serving(shelf) as server:
        sender = await Raw.connect(server)
        assert await sender.ask(frame(message("ADT^A08"))) == answer
        shelf.refuse = None
        assert await sender.ask(frame(message("ADT^A08"))) == "AA C1"
        sender.close()
    assert len(shelf.kept) == 1


async def test_slow_senders_and_silent_ones_are_hung_up_on() -> None:
    shelf = Shelf()
    async with serving(shelf, replace(LISTEN, message_s=0.2, idle_s=3600)) as server:
        loris = await Raw.connect(server)
        loris.writer.write(b"\x0bMSH|^~\\&|")
        quiet = await Raw.connect(server)
        assert await loris.answer() == "", "a message that does not end"
        assert await quiet.ask(frame(message("ADT^A08"))) == "AA C1", "a silent connection is none"
        quiet.close()
        loris.close()
    async with serving(shelf, replace(LISTEN, idle_s=0.2)) as server:
        idle = await Raw.connect(server)
        assert await idle.answer() == ""
        idle.close()


async def test_stopping_ends_connections_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Shelf()) as server:
        raw = await Raw.connect(server)
        assert await raw.ask(frame(message("ADT^A08"))) == "AA C1"
    assert await raw.answer() == ""
    raw.close()
    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_dead_peers_are_found_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that forgot a connection must not hold one of the places for a day."""
    lines: list[socket.socket] = []

    def seen(writer: asyncio.StreamWriter) -> None:
        keep_alive(writer)
        lines.append(writer.get_extra_info("socket"))
        assert lines[-1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert lines[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    monkeypatch.setattr("server.gateway.adapters.mllp_server.keep_alive", seen)
    monkeypatch.setattr("server.gateway.adapters.mllp_client.keep_alive", seen)
    async with serving(Shelf()) as server:
        raw = await Raw.connect(server)
        assert await raw.ask(frame(message("ADT^A08"))) == "AA C1"
        raw.close()
    async with hospital([]) as (port, _):
        inlet = sender(port)
        await inlet.deliver(opinion("a"))
        await inlet.close()
    assert len(lines) == 2


async def test_connections_are_bounded_and_peers_can_be_named() -> None:
    shelf = Shelf()
    async with serving(shelf, replace(LISTEN, max_connections=1)) as server:
        first = await Raw.connect(server)
        assert await first.ask(frame(message("ADT^A08"))) == "AA C1"
        second = await Raw.connect(server)
        assert await second.answer() == ""
        assert await first.ask(frame(message("ADT^A08", control="C2"))) == "AA C2"
        first.close()
        second.close()
    async with serving(shelf, replace(LISTEN, peers=("10.0.0.0/8",))) as server:
        stranger = await Raw.connect(server)
        assert await stranger.answer() == ""
        stranger.close()


async def test_tls_as_gateway_toml_says(tmp_path: Path) -> None:
    """A sender that speaks plainly, or has no certificate where one is asked for, is not heard."""
    files = make_authority(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    trusting = ssl.create_default_context(cafile=str(files.ca_cert))
    table: dict[str, Any] = {"type": "mllp", "name": "his", "host": "127.0.0.1", "port": 1}
    table |= {"tls_cert": files.cert.name, "tls_key": files.key.name}
    shelf = Shelf()
    for more, taken in ({}, True), ({"tls_client_ca": files.ca_cert.name}, False):
        built = build_adapter(table | more, PROFILE, tmp_path)
        assert isinstance(built, MllpServer)
        async with serving(shelf, replace(built._listen, port=0)) as server:
            with contextlib.suppress(OSError):
                plain = await Raw.connect(server)
                assert await plain.ask(frame(message("ADT^A08"))) == ""
                plain.close()
            answer = ""
            with contextlib.suppress(OSError):
                line = Raw(*await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting))
                answer = await line.ask(frame(message("ADT^A08")))
                line.close()
            assert answer == ("AA C1" if taken else "")
    assert len(shelf.kept) == 1


# ---------------------------------------------------------------- live waveforms

PIECE = (
    "OBR|1|||wave|||20260314150900+0800|20260314150902+0800",
    f"OBX|1|NA|131330^^MDC|1.1.1.1|{'^'.join(str(n % 400) for n in range(1000))}|262419^MDC_DIM_MICRO_VOLT^MDC|||||R",
)  # fmt: skip


@pytest.fixture
def in_memory() -> Iterator[Path]:
    place = Path("/dev/shm")
    if not is_in_memory(place, Path("/proc/self/mounts").read_text()):
        pytest.skip("needs /dev/shm as a file system in memory")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


async def test_live_waveforms_reach_the_bedside_program_of_their_bed_and_not_the_record(in_memory: Path) -> None:
    """[W20] [W22] What the bedside program reads says whose it is; a bed that is not named has no stream."""
    table: dict[str, Any] = {"type": "mllp", "name": "icu", "host": "127.0.0.1", "port": 1}
    table["waveforms"] = {"folder": str(in_memory), "by": "PV1-3", "streams": {"ICU^1^A": "bed-1"}}
    built = build_adapter(table, PROFILE, in_memory)
    assert isinstance(built, MllpServer)
    shelf, bed = Shelf(), "PV1|1|I|ICU^1^A"
    async with serving(shelf, replace(built._listen, port=0)) as server:
        source = OruFolder(in_memory / "bed-1", errors=lambda name, _error: pytest.fail(name), first_s=DEADLINE_S)
        (in_memory / "bed-1" / "0.hl7").write_bytes(b"of before")
        opening = asyncio.ensure_future(source.open())
        while not source._seen:  # from now on it is news
            await asyncio.sleep(0.01)
        monitor = await Raw.connect(server)
        assert await monitor.ask(frame(message("ORU^R01", bed, *PIECE))) == "AA C1"
        assert await monitor.ask(frame(message("ORU^R01", "PV1|1|I|ICU^2^A", *PIECE, control="C2"))) == "AR C2"
        assert await monitor.ask(frame(message("ORU^R01", bed, *PIECE, control="C3", processing="T"))) == "AR C3"
        numerics = ("OBR|1||F1|X^Y^L", "OBX|1|NM|8867-4^HR^LN||71|/min|||||F")
        assert await monitor.ask(frame(message("ORU^R01", bed, *numerics, control="C4"))) == "AA C4"
        monitor.close()
        (form,) = await opening
        assert (form.leads, form.sample_rate_mhz) == (("II",), 500_000)
        reported, samples = "", 0
        async for _, item in source.items():
            if isinstance(item, PatientReport):
                reported = item.id
            elif isinstance(item, Block):
                samples += item.samples.shape[1]
            if samples == 1000:
                break
        await source.close()
    assert reported == "10042"
    assert [one.kind for one in shelf.kept] == ["ORU^R01"], "numbers cross, samples do not"
    with pytest.raises(SettingsInvalid, match="in memory"):
        build_adapter(table | {"waveforms": table["waveforms"] | {"folder": "/etc"}}, PROFILE, in_memory)


async def test_live_pieces_are_bounded_and_gone_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waveform_spool, "MAX_PIECES", 3)
    now, left = [0.0], tmp_path / "m"
    left.mkdir()
    (left / "old.hl7").write_bytes(b"of the run before")
    routes = waveform_spool.WaveformRoutes(folder=tmp_path, by="MSH-3", streams={"HIS": "m"})
    spool = waveform_spool.WaveformSpool(routes, now_s=lambda: now[0])
    spool.prepare()
    data = message("ORU^R01", *PIECE)
    for number in range(5):
        now[0] = number
        await spool.take(parse(data, default_charset=PROFILE.charset), data)
        assert len(list(left.iterdir())) == min(number + 1, 3)
    now[0] = 100
    await spool.take(parse(data, default_charset=PROFILE.charset), data)
    (last,) = left.iterdir()
    assert (last.read_bytes(), last.stat().st_mode & 0o077) == (data, 0)
    now[0] = 200
    spool.expire()
    assert not list(left.iterdir())


# ---------------------------------------------------------------- to the hospital

TO = Destination(application="HIS", facility="H1", authorities={MRN: "HIS"})
OPINION = (
    b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"DiagnosticReport","id":"r",'
    b'"status":"final","code":{"text":"Opinion"},"conclusion":"\xe5\xbf\x83\xe6\xa2\x97"}}]}'
)


def opinion(key: str) -> Crossing:
    return Crossing(
        kind="ORU^R01", key=key, patient=((MRN, "10042"),), media_type=FHIR_JSON, body=OPINION, made_us=10**15
    )


Behaviour = Callable[[hl7.Message], Awaitable[list[str | None]]]


@contextlib.asynccontextmanager
async def hospital(answers: list[list[str | None]]) -> AsyncIterator[tuple[int, list[str]]]:
    """A foreign MLLP server: for each message the MSA codes to answer, None hangs up; at the end it says AA."""
    seen: list[str] = []

    async def connected(reader: Any, writer: Any) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                got = await reader.readmessage()
                seen.append(str(got.segment("MSH")[10]))
                for code in answers.pop(0) if answers else ["AA"]:
                    if code is None:
                        writer.close()
                        return
                    ack = got.create_ack(code)
                    if code.startswith("stray"):
                        ack = got.create_ack("AA")
                        ack.segment("MSA")[2] = "SOMETHING-ELSE"
                    writer.writemessage(ack)
                await writer.drain()

    server = await start_hl7_server(connected, "127.0.0.1", 0, encoding="utf-8")
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


def sender(port: int, **changes: Any) -> MllpSender:
    return MllpSender(replace(MllpTarget(name="to-his", host="127.0.0.1", port=port, destination=TO), **changes))


async def test_a_foreign_server_takes_opinions_in_order_over_one_connection() -> None:
    async with hospital([["stray", "AA"]]) as (port, seen):
        inlet = sender(port)
        for key in ("a", "b", "c"):
            await inlet.deliver(opinion(key))
        await inlet.close()
    assert seen == [control_id(key) for key in ("a", "b", "c")]


async def test_an_answer_to_another_message_is_none_to_this_one() -> None:
    """A late AA of the message before must not hide the AR of this one."""
    async with hospital([["stray", "AR"]]) as (port, _):
        inlet = sender(port)
        with pytest.raises(DeliveryFailed) as failed:
            await inlet.deliver(opinion("a"))
        assert not failed.value.retry
        await inlet.deliver(opinion("b"))
        await inlet.close()


async def test_ar_is_final_and_ae_is_tried_again_a_bounded_number_of_times() -> None:
    async with hospital([["AR"], ["AE"], ["AE"], ["AE"], ["CR"]]) as (port, seen):
        inlet = sender(port, ae_attempts=3)
        outcomes = []
        for key in ("a", "b", "b", "b", "c"):
            with pytest.raises(DeliveryFailed) as failed:
                await inlet.deliver(opinion(key))
            outcomes.append(failed.value.retry)
        assert outcomes == [False, True, True, False, False]
        await inlet.close()
    assert len(seen) == 5


async def test_a_dropped_connection_repeats_the_same_message_under_the_same_control_id() -> None:
    async with hospital([["AA"], [None]]) as (port, seen):
        inlet = sender(port)
        await inlet.deliver(opinion("a"))
        await inlet.deliver(opinion("b"))
        await inlet.close()
    assert seen == [control_id("a"), control_id("b"), control_id("b")]


async def test_an_answer_in_another_charset_than_it_says_is_an_answer() -> None:
    """The words of an ACK may be in the hospital's own charset; unread, the message would be sent for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = Deframer(10**6)
        while data := await reader.read(65536):
            for _ in found.feed(data):
                words = "已收到".encode("gb18030")
                head = b"MSH|^~\\&|HIS|H1|CONSILIUM||20260314||ACK|1|P|2.4\rMSA|AA|"
                writer.write(frame(head + control_id("a").encode() + b"|" + words + b"\r"))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server, asyncio.timeout(DEADLINE_S):
        inlet = sender(server.sockets[0].getsockname()[1])
        await inlet.deliver(opinion("a"))
        await inlet.close()


async def test_a_message_that_holds_up_its_interface_is_named_and_may_be_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Hung up on whenever it comes: the others wait behind it. Who it is is said; giving it up is configured."""
    held = HELD_UP.labels("to-his")
    async with hospital([[None]] * 6) as (port, seen):
        inlet = sender(port, silent_attempts=6)
        for number in range(1, 7):
            with pytest.raises(DeliveryFailed) as failed:
                await inlet.deliver(opinion("poison"))
            assert (failed.value.reason, failed.value.retry) == ("hospital_silent", number < 6)
            assert held._value.get() == (number if number < 6 else 0)
        await inlet.deliver(opinion("next"))
        await inlet.close()
    assert seen == [control_id("poison")] * 6 + [control_id("next")]
    told = capsys.readouterr().out
    assert told.count(control_id("poison")) == 1
    assert "poison" not in told


async def test_a_hospital_that_is_not_there_or_silent_is_tried_again_later() -> None:
    async with hospital([]) as (port, _):
        pass
    inlet = sender(port, connect_s=5)
    with pytest.raises(DeliveryFailed) as failed:
        await inlet.deliver(opinion("a"))
    assert (failed.value.retry, failed.value.reason) == (True, "hospital_unreachable")
    async with hospital([[]]) as (port, seen):
        inlet = sender(port, answer_s=0.3)
        with pytest.raises(DeliveryFailed) as failed:
            await inlet.deliver(opinion("a"))
        assert failed.value.retry
        patient = sender(port)
        await patient.deliver(opinion("a"))
        await patient.close()
    assert seen == [control_id("a")] * 2


async def test_what_cannot_be_said_in_hl7_is_refused_for_good() -> None:
    inlet = sender(1)
    for body in (b"{}", b"[]", b"\xff", OPINION.replace(b"final", b"entered-in-error")):
        with pytest.raises(DeliveryFailed) as failed:
            await inlet.deliver(replace(opinion("a"), body=body))
        assert not failed.value.retry
