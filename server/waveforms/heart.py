"""Computed heart rates of all live streams, once a second, off the loop.

The loop only gathers what arrived and hands it to one process (`heart_process`); there is one request under way at a
time. A core carries some two hundred streams; where it does not keep up, those that were there first keep their rate
and the others are told that there is none, instead of all being late. When the process dies another one is started and
its windows fill again; until then every rate is unsure. Where nothing arrived for three seconds there is none either.
"""

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Callable
from typing import Any, Final

import msgpack
import structlog

from server.metrics import HEART_SECONDS
from server.waveforms.core.index import LENGTH
from server.waveforms.core.stream import StreamInfo
from server.waveforms.desk import LiveStream, WaveformDesk
from signaling.core.messages import HeartRate

log = structlog.get_logger(__name__)

EVERY_S: Final = 1.0
ANSWER_S: Final = 30.0
"""The first answer includes the start of the process, on a machine that may be ten times busier than usual."""
LATE_S, EARLY_S = 1.5, 0.6
"""An answer that took longer is for fewer streams the next time, a quicker one for more."""
MAX_BEATS: Final = 64
MAX_BPM: Final = 600.0
BEATS_BYTES: Final = 8 << 20
PAUSE_S: Final = 2.0
"""Before another process is started."""


class HeartUnavailable(Exception):
    """The process does not answer now."""


class Hearts:
    """See the module.

    Args:
        emit: tells a consult its rate; must not wait.
        now_us: server time as frames carry it.
    """

    def __init__(self, desk: WaveformDesk, emit: Callable[[str, HeartRate], None], now_us: Callable[[], int]) -> None:
        self._desk = desk
        self._emit = emit
        self._now_us = now_us
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._line = asyncio.Lock()
        self._numbers = itertools.count(1)
        self.cpu_s = 0.0
        """CPU time of all answers so far."""
        self.ticks = 0
        self._share = 1_000_000
        """How many streams the process has time for."""

    def start(self) -> None:
        """Begin; the process starts with the first stream."""
        self._task = asyncio.create_task(self._run(), name="heart-rates")

    async def stop(self) -> None:
        """End the process; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end_process()

    async def beats(self, info: StreamInfo, from_us: int, to_us: int) -> dict[str, Any]:
        """R peaks of a stored stretch.

        Raises:
            HeartUnavailable: the process is busy or broke.
            BlobError: the frames cannot be read now.
        """
        frames, _ = await self._desk.archive.between_us(info, from_us, to_us, BEATS_BYTES)
        answer = await self._ask({"op": "beats", "info": info.model_dump(mode="json"), "frames": frames})
        if "error" in answer:
            raise HeartUnavailable(str(answer["error"]))
        return {
            "beats_us": [at for at in answer["beats_us"] if from_us <= at < to_us],
            "rates_bpm": [
                rate for at, rate in zip(answer["beats_us"], answer["rates_bpm"], strict=True) if from_us <= at < to_us
            ],
            "unsure": answer["unsure"],
        }

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            live = [one for one in self._desk.all_streams if one.live and one.open.state.frames]
            if not live:
                continue
            try:
                await self._tick(live)
            except HeartUnavailable as problem:
                log.warning("heart rates unavailable", reason=str(problem))
                for one in live:
                    self._tell(one, [None, [], one.last_us, True])
                await asyncio.sleep(PAUSE_S)

    async def _tick(self, live: list[LiveStream]) -> None:
        streams: dict[str, dict[str, Any]] = {}
        served, others = live[: self._share], live[self._share :]
        for one in others:
            one.for_heart.clear()
            self._tell(one, [None, [], one.last_us, True])
        for one in served:
            frames = list(one.for_heart)
            one.for_heart.clear()
            streams[one.info.archive] = {
                "leads": len(one.info.leads),
                "rate_mhz": one.info.sample_rate_mhz,
                "lsb_nv": one.info.lsb_nv,
                "frames": frames,
            }
        began_s = asyncio.get_running_loop().time()
        is_new = self._process is None
        answer = await self._ask({"op": "tick", "now_us": self._now_us(), "streams": streams})
        self.ticks += 1
        if not is_new:
            self._adapt(len(served), len(live), asyncio.get_running_loop().time() - began_s)
        for one in served:
            if one.live and one.info.archive in answer["rates"]:
                self._tell(one, answer["rates"][one.info.archive])

    def _adapt(self, served: int, wanted: int, took_s: float) -> None:
        if took_s > LATE_S:
            self._share = max(1, int(served / took_s))
            log.warning("heart rates of fewer streams", streams=self._share, of=wanted, took_s=round(took_s, 1))
        elif took_s < EARLY_S and self._share < wanted:
            self._share += max(1, self._share // 4)

    def _tell(self, one: LiveStream, rate: list[Any]) -> None:
        bpm, beats_us, at_us, unsure = rate
        self._emit(
            one.info.consult,
            HeartRate(
                stream_id=one.info.stream_id,
                context_version=one.context_version,
                bpm=bpm if bpm is None or 0 < bpm <= MAX_BPM else None,
                beats_us=tuple(beats_us[-MAX_BEATS:]),
                at_us=max(0, at_us),
                unsure=unsure,
            ),
        )

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, one answer, in turn; a process that is late or broken is ended."""
        async with self._line:  # who is cancelled while it waits here ends nobody's process
            return await self._ask_now(request)

    async def _ask_now(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ANSWER_S):
                process = await self._alive()
                assert process.stdin is not None
                assert process.stdout is not None
                body = await asyncio.to_thread(msgpack.packb, {**request, "id": next(self._numbers)})
                process.stdin.write(LENGTH.pack(len(body)) + body)
                await process.stdin.drain()
                size = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))[0]
                answer: dict[str, Any] = msgpack.unpackb(await process.stdout.readexactly(size))
        except (TimeoutError, OSError, EOFError, asyncio.IncompleteReadError) as problem:
            await self._end_process()
            raise HeartUnavailable(type(problem).__name__) from problem
        except asyncio.CancelledError:
            await self._end_process()  # its answer would be taken for the next one's
            raise
        self.cpu_s += answer["cpu_s"]
        HEART_SECONDS.inc(answer["cpu_s"])
        return answer

    async def _alive(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server.waveforms.heart_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        return self._process

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
