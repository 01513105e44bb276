"""`consilium bedside`: stream one device into one consult, from the bed, for hours.

The device's secret comes from CONSILIUM_DEVICE_SECRET, a file, or the keyboard; never from the command line,
which every user of the machine can read. Before anything is sent, somebody reads two identifiers at the
bed (W20): typed here when asked, given once with ``--confirm``, or confirmed in the consult by the staff there.
When the binding is over, nothing goes on by itself: the words say why, and binding again is an act at the bed.
"""

import asyncio
import getpass
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from media.sources import LiveSource, SourceError
from server.bedside.client import Assignment, running
from server.bedside.station import Bedside, Station
from server.bedside.stream import OutStream
from server.exits import Exit, StartError
from server.lifecycle import stop_signals
from server.log import configure_log
from signaling.core.errors import SENTENCES, ErrorCode
from signaling.core.model import Context, Mismatch, UnboundReason

SECRET: Final = "CONSILIUM_DEVICE_SECRET"  # noqa: S105 -- the variable's name
FINAL_REFUSALS: Final = frozenset({"not_signed_in", "not_allowed", "not_found", "protocol_version"})
"""At the door these do not change by asking again."""

_OVER: Final[dict[UnboundReason | None, tuple[str, str]]] = {
    UnboundReason.BY_PERSON: ("绑定已被解除。", "The binding was ended by a person in the consult."),
    UnboundReason.EXPIRED: ("绑定已到期。", "The binding's time is over."),
    UnboundReason.CONSULT_ENDED: ("会诊已结束。", "The consult was ended."),
    UnboundReason.DEVICE_LEFT: ("设备离线过久，绑定已结束。", "The device was away too long; the binding is over."),
    UnboundReason.CONTEXT_CHANGED: (
        "已切换到其他患者，绑定已结束。",
        "Another patient was opened; the binding is over.",
    ),
    UnboundReason.MISMATCH: (
        "设备上报的患者与绑定患者不一致，已停止发送。",
        "The device says it has another patient than the bound one. Nothing more is sent.",
    ),
    UnboundReason.DISCHARGED: ("患者已出院，绑定已结束。", "The patient was discharged; the binding is over."),
    UnboundReason.TRANSFERRED: ("患者已转科，绑定已结束。", "The patient was transferred; the binding is over."),
    None: ("与服务器断开期间绑定已结束。", "The binding ended while the hub could not be reached."),
}  # fmt: skip
AGAIN: Final = "如需继续，请在床旁重新核对两项标识。 To go on, confirm two identifiers at the bed again."


def say(text: str) -> None:
    """One line for the person at the bed."""
    print(text, flush=True)


class Given:
    """Two identifiers from the command line: good for one binding, then the program ends."""

    def __init__(self, pair: tuple[str, str]) -> None:
        self._pair: tuple[str, str] | None = pair

    async def identifiers(self, context: Context) -> tuple[str, str] | None:
        """See `Bedside`."""
        pair, self._pair = self._pair, None
        return pair

    def refused(self, code: ErrorCode) -> bool:
        """See `Bedside`."""
        _say_refused(code)
        return True

    def unbound(self, reason: UnboundReason | None, mismatch: Mismatch | None) -> bool:
        """See `Bedside`."""
        _say_over(reason, mismatch)
        return True


class Asked:
    """Somebody at the keyboard, asked for each patient that is opened. A mismatch ends the program."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str] = asyncio.Queue(4)
        self._listening = False

    async def identifiers(self, context: Context) -> tuple[str, str] | None:
        """See `Bedside`. Shows the name, never the identifiers: those are read at the bed. [P]"""
        self._listen()
        person = context.patient
        say("")
        say(f"已打开患者 Patient opened: {person.name} {person.name_latin}".rstrip())
        say("请在床旁读取腕带上的两项标识，分两行输入。 Read two identifiers at the bed and type them, one a line:")
        while not self._lines.empty():
            self._lines.get_nowait()
        return await self._lines.get(), await self._lines.get()

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening = True
        loop = asyncio.get_running_loop()

        def typed() -> None:
            line = sys.stdin.readline()
            if not line:
                loop.remove_reader(sys.stdin)
            elif line.strip() and not self._lines.full():
                self._lines.put_nowait(line.strip()[:100])

        loop.add_reader(sys.stdin, typed)

    def refused(self, code: ErrorCode) -> bool:
        """See `Bedside`."""
        _say_refused(code)
        return code in (ErrorCode.DEVICE_MISMATCH, ErrorCode.SIMULATED_ON_REAL_PATIENT)

    def unbound(self, reason: UnboundReason | None, mismatch: Mismatch | None) -> bool:
        """See `Bedside`."""
        _say_over(reason, mismatch)
        return reason is not UnboundReason.CONTEXT_CHANGED


class Elsewhere:
    """Nobody here binds: staff of this hospital in the consult do."""

    async def identifiers(self, context: Context) -> tuple[str, str] | None:
        """See `Bedside`."""
        say("等待床旁人员在会诊中核对并绑定。 Waiting until staff at the bed bind this device in the consult.")
        return None

    def refused(self, code: ErrorCode) -> bool:
        """See `Bedside`."""
        return False

    def unbound(self, reason: UnboundReason | None, mismatch: Mismatch | None) -> bool:
        """See `Bedside`."""
        _say_over(reason, mismatch)
        return reason is UnboundReason.MISMATCH


def _say_refused(code: ErrorCode) -> None:
    en, zh = SENTENCES[code]
    say(f"绑定被拒绝：{zh} Binding refused: {en}")


def _say_over(reason: UnboundReason | None, mismatch: Mismatch | None) -> None:
    zh, en = _OVER[reason]
    say(f"{zh} {en}")
    if reason is UnboundReason.MISMATCH and mismatch is not None:
        bound = ", ".join(f"{i.label} {i.value}" for i in mismatch.identifiers)
        say(f"  绑定 bound: {bound}    设备 device: {mismatch.reported}")
    if reason is not UnboundReason.CONSULT_ENDED:
        say(f"  {AGAIN}")


def device_secret(file: Path | None) -> str:
    """The device's own secret.

    Raises:
        StartError: there is none.
    """
    if file is not None:
        try:
            secret = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise StartError(Exit.SETTINGS, f"{file} cannot be read: {type(problem).__name__}.") from None
    else:
        secret = os.environ.get(SECRET, "").strip()
        if not secret and sys.stdin.isatty():
            secret = getpass.getpass("Device secret 设备密钥: ").strip()
    if not secret:
        raise StartError(Exit.SETTINGS, f"The device's secret is missing: set {SECRET} or --secret-file.")
    return secret


def bedside_for(confirm: list[str]) -> Bedside:
    """Who binds.

    Raises:
        StartError: one identifier, or more than two, or the same twice.
    """
    if not confirm:
        return Asked() if sys.stdin.isatty() else Elsewhere()
    if len(confirm) != 2 or confirm[0].strip() == confirm[1].strip() or not all(c.strip() for c in confirm):
        raise StartError(Exit.SETTINGS, "--confirm is needed twice, with two different identifiers read at the bed.")
    return Given((confirm[0], confirm[1]))


def origin_of(server: str) -> str:
    """The hub's origin from what somebody typed.

    Raises:
        StartError: it is no http or https address, or plain http to another machine.
    """
    parts = urlsplit(server if "//" in server else f"https://{server}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise StartError(
            Exit.SETTINGS, f"--server must be the hub's address, like https://hub.example, not {server!r}."
        )
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise StartError(Exit.SETTINGS, "A hub on another machine is reached by https only.")
    return f"{parts.scheme}://{parts.netloc}"


def bedside(source: LiveSource, assignment: Assignment, bed: Bedside) -> int:
    """Run until the consult or the binding is over, or Ctrl-C."""
    configure_log(json=False, level=logging.INFO)
    logging.getLogger("pymediasoup").setLevel(logging.ERROR)  # it warns of every channel that closes
    try:
        return asyncio.run(_run(source, assignment, bed))
    except SourceError as error:
        raise StartError(Exit.SOURCE, f"{error.zh} {error.en} ({error})") from None


async def streams_of(source: LiveSource) -> list[OutStream]:
    """Open the source and give each of its streams a number of its own."""
    return [
        OutStream(one, stream_id=1 + secrets.randbelow(2**32 - 1), numbering=1 + secrets.randbelow(2**16 - 1))
        for one in await source.open()
    ]


async def _run(source: LiveSource, assignment: Assignment, bed: Bedside) -> int:
    refusals: list[str] = []

    def refused(code: str) -> bool:
        if code in FINAL_REFUSALS:
            refusals.append(code)
        return code in FINAL_REFUSALS

    with stop_signals() as stop:
        try:
            async with running(streams_of(source)) as opening, running(stop.wait()) as stopping:
                await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not opening.done():
                    return Exit.OK
                streams = opening.result()
            _tell(streams, assignment)
            station = Station(source, streams, bed, say)
            async with running(station.run(assignment, refused)) as working, running(stop.wait()) as stopping:
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
        finally:
            await source.close()
    if refusals:
        raise StartError(Exit.REFUSED, f"The hub refused this device: {refusals[0]}. 服务器拒绝了该设备。")
    say("已停止。 Stopped.")
    return Exit.OK


def _tell(streams: list[OutStream], assignment: Assignment) -> None:
    for stream in streams:
        source = stream.source
        say(f"{source.device}")
        say(
            f"  {', '.join(source.leads)}   {source.sample_rate_mhz / 1000:g} Hz   {source.lsb_nv / 1000:g} uV/step"
            f"   {source.filter or 'filter unknown 滤波未知'}" + ("   SIMULATED 模拟" if source.simulated else "")
        )
    say(f"会诊 Consult {assignment.consult} @ {assignment.origin}")
