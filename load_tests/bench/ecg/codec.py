"""What a waveform costs: bytes a second on the wire, microseconds to encode (Python) and decode (the browser's code).

The same blocks, of the same length in time, are written four ways: our frames, bare int16 behind the same header,
first differences deflated (zlib, level 6) behind it, which is what a general compressor makes of them, and FHIR
``SampledData`` in JSON, one Observation with a component per lead, compact, as the standard has it. The decoder of
ours is the web client's own TypeScript, built as for the browser and run in Node, which is the same V8.

A time counts only if this process had its core to itself: CPU time must be nearly all of the time that passed
(``params.valid``). The median over many batches keeps single interruptions out.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load_tests.browsers.web_bundle import build_program
from load_tests.rig.ecg_records import EPOCH_US, LEADS, Record, encode_all, record_500, sample_record, simulated_500
from load_tests.rig.figures import Scalar, emit, median, note
from media.core.waveform import FrameWriter
from media.core.waveform.frame import HEADER_BYTES

BATCHES = 40
CPU_FLOOR = 0.9
"""Less of the time on the core, and something else was measured."""
RUN_TIMEOUT_S = 120

DECODE = """
import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";
import { parseMessage } from "@src/waveform/frame";

const { ours, fhir, raw, deflate, leads, batches } = JSON.parse(readFileSync(process.argv[2], "utf-8"));
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
let kept = 0;

function decodeFhir(text) {
  for (const { valueSampledData } of JSON.parse(text).component) {
    kept += Int16Array.from(valueSampledData.data.split(" ")).length;
  }
}
function decodeOurs(message) {
  const result = parseMessage(message);
  if (!result.ok) throw new Error("a frame of ours does not decode");
  kept += result.frame.samples.length;
}
function decodeRaw(message) {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const samples = new Int16Array(message.byteLength >> 1);
  for (let i = 0; i < samples.length; i += 1) samples[i] = view.getInt16(2 * i, true);
  kept += samples.length;
}
function decodeDeflate(message) {
  const differences = inflateRawSync(message);
  const samples = new Int16Array(differences.buffer, differences.byteOffset, differences.length >> 1).slice();
  const count = samples.length / leads;
  for (let i = 0; i < samples.length; i += 1) if (i % count) samples[i] += samples[i - 1];
  kept += samples.length;
}
function time(decode, messages) {
  const taken = [];
  const cpuBefore = process.cpuUsage();
  const began = process.hrtime.bigint();
  // The first quarter only warms the compiler.
  for (let batch = 0; batch < batches * 1.25; batch += 1) {
    const start = process.hrtime.bigint();
    for (const message of messages) decode(message);
    taken.push(Number(process.hrtime.bigint() - start) / 1000 / messages.length);
  }
  const cpu = process.cpuUsage(cpuBefore);
  const share = (cpu.user + cpu.system) / (Number(process.hrtime.bigint() - began) / 1000);
  return { us: taken.slice(batches / 4).sort((a, b) => a - b)[batches >> 1], share };
}
const answer = {
  ours: time(decodeOurs, ours.map(bytes)),
  fhir: time(decodeFhir, fhir),
  raw: time(decodeRaw, raw.map(bytes)),
  deflate: time(decodeDeflate, deflate.map(bytes)),
};
console.log(JSON.stringify({ ...answer, kept }));
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """A median over batches.

    Attributes:
        us: of one frame.
        cpu_share: how much of the time this process had the core.
    """

    us: float
    cpu_share: float


def fhir_json(samples: NDArray[np.int16], record: Record, t0_us: int) -> bytes:
    """The same block as one FHIR R4B Observation with SampledData, without anything that is not required."""
    period_ms = 1e6 / record.sample_rate_mhz
    components = [
        {
            "code": {"text": lead},
            "valueSampledData": {
                "origin": {"value": 0, "unit": "uV"},
                "period": period_ms,
                "factor": record.lsb_nv / 1000,
                "dimensions": 1,
                "data": " ".join(map(str, row.tolist())),
            },
        }
        for lead, row in zip(LEADS, samples, strict=True)
    ]
    observation = {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "131328"}]},
        "effectiveInstant": t0_us / 1e6,
        "component": components,
    }
    return json.dumps(observation, separators=(",", ":")).encode()


def deflated(samples: NDArray[np.int16]) -> bytes:
    """First differences of each lead, modulo 2^16, deflated."""
    differences = np.diff(samples, axis=1, prepend=np.int16(0)).astype("<i2")
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return squeeze.compress(differences.tobytes()) + squeeze.flush()


def fhir_strip(record: Record) -> bytes:
    """All of the record in one Observation: the least that FHIR can take, ten seconds late."""
    return fhir_json(record.samples, record, EPOCH_US)


def timed(work: Callable[[], int], batches: int) -> Timed:
    """``work`` returns how many frames it did."""
    work()
    taken_us = []
    cpu_began, began = time.process_time(), time.perf_counter()
    for _ in range(batches):
        start = time.perf_counter_ns()
        frames = work()
        taken_us.append((time.perf_counter_ns() - start) / 1000 / frames)
    share = (time.process_time() - cpu_began) / (time.perf_counter() - began)
    return Timed(median(taken_us), share)


def _encoders(record: Record) -> dict[str, Callable[[], int]]:
    blocks = list(record.blocks())

    def each(one: Callable[[NDArray[np.int16]], Any]) -> Callable[[], int]:
        def work() -> int:
            for _, samples in blocks:
                one(samples)
            return len(blocks)

        return work

    def ours() -> int:
        writer = FrameWriter(record.stream())
        for first, samples in blocks:
            writer.write(samples, t0_us=EPOCH_US + first, context_version=1, restart=True)
        return len(blocks)

    return {
        "ours": ours,
        "fhir_json": each(lambda samples: fhir_json(samples, record, EPOCH_US)),
        "delta_deflate": each(deflated),
        "raw_int16": each(lambda samples: samples.astype("<i2").tobytes()),
    }


def decode_times(record: Record, batches: int) -> dict[str, Timed]:
    """What Node says about the same frames."""
    blocks = [samples for _, samples in record.blocks()]
    request = {
        "batches": batches,
        "ours": [base64.b64encode(frame).decode() for frame in encode_all(record, redundant=False)],
        "leads": len(LEADS),
        "deflate": [base64.b64encode(deflated(samples)).decode() for samples in blocks],
        "fhir": [fhir_json(samples, record, EPOCH_US).decode() for samples in blocks],
        "raw": [base64.b64encode(samples.astype("<i2").tobytes()).decode() for samples in blocks],
    }
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as made:
        folder = Path(made)
        program = build_program(folder, DECODE)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        command = [shutil.which("node") or "node", str(program), str(folder / "request.json")]
        ran = subprocess.run(command, check=True, capture_output=True, timeout=RUN_TIMEOUT_S)
    answer = json.loads(ran.stdout)
    return {name: Timed(answer[name]["us"], answer[name]["share"]) for name in ("ours", "fhir", "raw", "deflate")}


def bytes_per_s(messages: Iterable[bytes], seconds: float) -> float:
    """Of all messages of so many seconds of signal."""
    return sum(map(len, messages)) / seconds


def measure(record: Record, batches: int) -> None:
    """All figures of one record."""
    block_ms = record.stream().block_samples * 1e6 / record.sample_rate_mhz
    count = len(list(record.blocks()))
    seconds = count * block_ms / 1000
    params: dict[str, Scalar] = {
        "record": record.name, "leads": len(LEADS), "rate_hz": record.sample_rate_mhz // 1000, "block_ms": block_ms,
        "frames": count,
    }  # fmt: skip
    raw_bps = (HEADER_BYTES * count + 2 * record.samples.size) / seconds
    fhir_bps = bytes_per_s((fhir_json(samples, record, EPOCH_US) for _, samples in record.blocks()), seconds)
    deflated_bytes = sum(len(deflated(samples)) for _, samples in record.blocks())
    alternatives = {
        "raw_int16": raw_bps,
        "delta_deflate": (HEADER_BYTES * count + deflated_bytes) / seconds,
        "fhir_json": fhir_bps,
        "fhir_json_10_s_strip": len(fhir_strip(record)) / seconds,
    }
    for redundant in (False, True):
        sent_bps = bytes_per_s(encode_all(record, redundant), seconds)
        emit("waveform_bytes_per_s", sent_bps, "bytes/s", {**params, "with_frame_before": redundant}, alternatives)
    measured = {"ecg_encode_us": _encode_times(record, batches), "ecg_decode_us": _decode_times(record, batches)}
    for figure, taken in measured.items():
        share = min(one.cpu_share for one in taken.values())
        judged = {**params, "cpu_share": round(share, 3), "valid": share >= CPU_FLOOR}
        emit(figure, taken.pop("ours").us, "us", judged, {name: one.us for name, one in taken.items()})


def _encode_times(record: Record, batches: int) -> dict[str, Timed]:
    return {name: timed(work, batches) for name, work in _encoders(record).items()}


def _decode_times(record: Record, batches: int) -> dict[str, Timed]:
    taken = decode_times(record, batches)
    return {
        "ours": taken["ours"], "fhir_json": taken["fhir"], "raw_int16": taken["raw"], "delta_deflate": taken["deflate"]
    }  # fmt: skip


def run(batches: int = BATCHES) -> None:
    """The figures of each record."""
    for record in (record_500(), sample_record(), simulated_500()):
        note(f"ecg_codec: {record.name}")
        measure(record, batches)


if __name__ == "__main__":
    run()
