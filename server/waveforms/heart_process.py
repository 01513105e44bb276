"""The process that computes heart rates: ``python -m server.waveforms.heart_process``.

Decoding a frame and looking at ten seconds of it cost some milliseconds a stream and second: too much for the server's
loop, nothing for a core beside it. Requests come on standard input and answers leave on standard output, each
``u32 length | msgpack map``, in order. It ends when its input does.
"""

import contextlib
import os
import sys
import time
from typing import Any, BinaryIO, Final

import msgpack

from media.aio.scheduling import follow_nice
from server.waveforms.core.beats import HeartWindow, beats_of, summary
from server.waveforms.core.index import LENGTH
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import ExportTooLarge, read_runs

NICE: Final = 1
WINDOWS: Final = 512


class HeartProcess:
    """Windows of all streams."""

    def __init__(self) -> None:
        self._windows: dict[str, HeartWindow] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request."""
        began_s = time.process_time()
        found = self._tick(request) if request["op"] == "tick" else self._beats(request)
        return {"id": request["id"], **found, "cpu_s": time.process_time() - began_s}

    def _tick(self, request: dict[str, Any]) -> dict[str, Any]:
        """A second of every stream; streams that are not named are forgotten."""
        streams: dict[str, dict[str, Any]] = request["streams"]
        for key in [key for key in self._windows if key not in streams]:
            del self._windows[key]
        return {"rates": {key: self._rate(key, one, request["now_us"]) for key, one in streams.items()}}

    def _rate(self, key: str, one: dict[str, Any], now_us: int) -> list[Any]:
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= WINDOWS:
                return [None, [], 0, True]
            window = self._windows[key] = HeartWindow(one["leads"], one["rate_mhz"], one["lsb_nv"])
        window.push(one["frames"])
        rate = window.rate(now_us)
        return [rate.bpm, list(rate.beats_us), rate.at_us, rate.unsure]

    def _beats(self, request: dict[str, Any]) -> dict[str, Any]:
        info = StreamInfo.model_validate(request["info"])
        beats: list[int] = []
        unsure = False
        try:
            runs = read_runs(info, request["frames"])
        except (ExportTooLarge, ValueError):
            return {"error": "unreadable"}
        for run in runs:
            cells, doubtful = beats_of(run.values, run.valid, run.rate_mhz / 1000, run.lsb_nv)
            beats += [run.time_us(cell) for cell in cells]
            unsure = unsure or doubtful
        return {**summary(beats), "unsure": unsure}


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the input ends."""
    process = HeartProcess()
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        body = source.read(LENGTH.unpack(head)[0])
        answer = msgpack.packb(process.answer(msgpack.unpackb(body)))
        sink.write(LENGTH.pack(len(answer)) + answer)
        sink.flush()


if __name__ == "__main__":
    os.nice(NICE)
    follow_nice()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, sys.stdout.buffer)
