"""A recording that somebody uploaded, turned into frames; runs in the job's process only.

What the file says goes in unchanged: every sample at its place, holes as holes, reasons of invalid samples as runs
(W10, W2). A file that does not say when it was taken keeps that: its time begins at zero and each frame says that its
clock is not known.
"""

from pathlib import Path
from typing import Any, Final

from media.core.waveform import Flag, FrameWriter, StreamFormat, split_message
from media.sources import Recording, SourceError, Strip, read
from server.waveforms.core.index import record

MAX_STRIPS: Final = 8
MAX_VITALS: Final = 20_000
MAX_NOTICES: Final = 100


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Read ``request["source"]``, write ``<out>.<n>`` for each strip; what the rows need to know of them."""
    try:
        recording = read(Path(request["source"]).read_bytes())
    except SourceError as problem:
        return {"error": problem.code.value, "text": problem.detail, "en": problem.en, "zh": problem.zh}
    except MemoryError:
        return {"error": "source_too_large", "text": "memory"}
    strips = recording.strips[:MAX_STRIPS]
    answers = []
    for number, strip in enumerate(strips):
        identity = int(request["first_stream_id"]) + number
        with Path(f"{request['out']}.{number}").open("wb") as file:
            for frame in frames_of(recording, strip, identity, int(request["context_version"])):
                file.write(record(frame))
        answers.append(
            {
                "stream_id": identity,
                "leads": list(strip.names),
                "sample_rate_mhz": strip.sample_rate_mhz,
                "lsb_nv": strip.lsb_nv,
            }
        )
    return {
        "ok": {
            "format": recording.format,
            "strips": answers,
            "left_out": len(recording.strips) - len(strips),
            "device": recording.device,
            "filter": recording.filter,
            "simulated": recording.simulated,
            "has_time": recording.start_us is not None,
            "patient_ids": list(recording.patient.ids),
            "notices": [
                {"code": one.code.value, "en": one.en, "zh": one.zh, "detail": one.detail}
                for one in recording.notices[:MAX_NOTICES]
            ],
            "vitals": [
                {"code": v.code, "value": v.value, "unit": v.unit, "at_us": v.at_us, "quality": v.quality}
                for v in recording.vitals[:MAX_VITALS]
                if recording.start_us is not None
            ],
        }
    }


def frames_of(recording: Recording, strip: Strip, stream_id: int, context_version: int) -> list[bytes]:
    """The strip as frames without transport flags, in order."""
    stream = StreamFormat(
        stream_id=stream_id,
        leads=len(strip.leads),
        sample_rate_mhz=strip.sample_rate_mhz,
        lsb_nv=strip.lsb_nv,
        simulated=recording.simulated,
    )
    writer = FrameWriter(stream)
    start_us = (recording.start_us or 0) + strip.offset_us
    flags = Flag(0) if recording.start_us is not None else Flag.CLOCK_UNSYNCED
    frames: list[bytes] = []
    for block in strip.blocks(stream.block_samples):
        if block.skipped:
            writer.skip(block.skipped)
        message = writer.write(
            block.samples,
            t0_us=start_us + block.captured_us,
            context_version=context_version,
            restart=not frames,
            flags=flags | (Flag.GAP_BEFORE if block.skipped else Flag(0)),
            lead_off_mask=block.lead_off_mask,
            saturated_mask=block.saturated_mask,
            invalid_runs=block.invalid_runs,
            pace_offsets=block.pace_offsets,
        )
        frames.append(split_message(message)[0].encoded)
    return frames
