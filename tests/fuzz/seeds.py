"""Valid examples to begin with, one file each; ``python -m tests.fuzz --seeds`` writes those that are missing."""

import asyncio
import hashlib
import io
import json
import math
from pathlib import Path
from struct import pack
from typing import Any

import edfio
import numpy as np
from aioice import stun

from media.core import framing, ortc, ortc_transport, rtcp, rtp, tap, twcc
from media.core.waveform import build_frame
from media.core.waveform.vitals import ReportedAlarm, VitalSign, build_vital
from server.gateway.hl7v2.framing import frame as mllp_frame
from server.lock.core import wire as lock_wire
from server.lock.core.proof import next_mark
from tests import hl7v2_kit, sctp_kit
from tests.fuzz import fhir
from tests.fuzz.engine import CORPUS
from tests.fuzz.live import Arena
from tests.fuzz.targets import PASSWORD, SPLIT
from tests.integration.media.peer import Peer

VECTORS = Path(__file__).parents[1] / "vectors" / "whip"


def _checks() -> dict[str, bytes]:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, b"0123456789ab")
    request.attributes["USERNAME"] = "ufrag123:abcd"
    request.attributes["PRIORITY"] = 1853824767
    request.attributes["ICE-CONTROLLING"] = 1
    plain = bytes(request)
    request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(PASSWORD.encode())
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, b"0123456789ab")
    answer.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 4000)
    error = stun.Message(stun.Method.BINDING, stun.Class.ERROR, b"0123456789ab")
    error.attributes["ERROR-CODE"] = (487, "Role Conflict")
    return {"signed": bytes(request), "unsigned": plain, "answer": bytes(answer), "error": bytes(error)}


def _packets() -> dict[str, bytes]:
    head = pack("!BBHII", 0x80, 96, 1, 2, 3)
    extended = pack("!BBHII", 0x90, 96, 1, 2, 3)
    short = rtp.build_extensions([(1, b"\x30"), (3, b"\0\7"), (4, b"0"), (10, b"r0")])
    long = rtp.build_extensions([(1, b"\x30"), (20, b"x" * 40)])
    return {
        "plain": head + b"payload",
        "one_byte": extended + short + b"payload",
        "two_byte": extended + long + b"payload",
        "csrc": pack("!BBHII", 0x82, 96, 1, 2, 3) + bytes(8) + b"x",
        "padded": pack("!BBHII", 0xA0, 96, 1, 2, 3) + b"xx\0\0\3",
        "other_profile": extended + pack("!HH", 0x1234, 1) + bytes(4) + b"x",
    }


def _payloads() -> dict[str, bytes]:
    frame = b"\x10\x02\x00\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(10)
    return {
        "vp8_key": b"\0\x90\xf0\x81\x02\x03\x40" + frame,
        "vp8_short": b"\1\x90\x80\x05" + frame,
        "vp8_bare": b"\2\x10" + frame,
        "h264_sps": b"\3\x67\x42\xe0\x1f\x00",
        "h264_stap": b"\4\x78\0\4\x67\x42\xe0\x1f\0\2\x68\xce",
        "h264_fu": b"\5\x7c\x85" + bytes(10),
        "vp9_key": b"\6\x8a\x80\x05\x18" + bytes(10),
        "vp9_layers": b"\7\xaa\x80\x05\x02\x00" + bytes(10),
        "av1": b"\0\x18\x0a\x0b" + bytes(10),
    }


def _descriptors() -> dict[str, bytes]:
    # L1T3 and L3T3 structures as libwebrtc writes them, then a plain packet.
    l1t3 = bytes.fromhex("800001801481d2a8ab20409000")
    l3t3 = bytes.fromhex("c0000080008000f0" + "1481" * 8)
    return {
        "bare": b"\x03\xc0\x00\x01\xc1\x00\x02",
        "l1t3": bytes((len(l1t3),)) + l1t3 + b"\x42\x00\x02",
        "l3t3": bytes((len(l3t3),)) + l3t3 + b"\xc1\x00\x02\x40",
        "long": b"\xff" + b"\x80\x00\x01\xff" + b"\xff" * 251 + b"\x80\x00\x02",
    }


def _reports() -> dict[str, bytes]:
    block = rtcp.ReportBlock(7, 3, 100, 70_000, 5, 0x1234, 0x10)
    recorder = twcc.ArrivalRecorder()
    for number in [*range(30), *range(60, 70), 72, 75]:
        recorder.record(number, 1_000_000 + number * 20_000)
    feedback = recorder.build(1, 2)[0]
    report = rtcp.build_receiver_report(1, [block])
    return {
        "sender": rtcp.build_sender_report(1, 2, 3, 4, 5, [block]),
        "receiver": report,
        "nack": rtcp.build_nack(1, 2, [10, 11, 14, 40, 65_535]),
        "pli": report + rtcp.build_pli(1, 2),
        "fir": pack("!BBHII", 0x84, 206, 4, 1, 0) + pack("!IBxxx", 2, 9),
        "remb": report + rtcp.build_remb(1, 500_000, [2, 3]),
        "feedback": feedback,
        "feedback_claims": pack("!BBHII", 0x8F, 205, 7, 1, 2) + pack("!HHI", 0, 0xFFFF, 0) + pack("!H", 0x1FFF) * 6,
        "sdes": pack("!BBHI", 0x81, 202, 3, 1) + b"\1\5cname\0",
        "bye": pack("!BBHI", 0x81, 203, 1, 1),
        "xr": pack("!BBHI", 0x80, 207, 4, 1) + pack("!BBHQ", 4, 0, 2, 1 << 40),
        "dlrr": rtcp.build_dlrr(1, [rtcp.DlrrBlock(2, 3, 4)]),
        "padded": pack("!BBHI", 0xA0, 201, 2, 1) + b"\0\0\0\4",
    }


def _associations() -> dict[str, bytes]:
    data, chunk, sack, peer, own = sctp_kit.data, sctp_kit.chunk, sctp_kit.sack, sctp_kit.PEER_TSN, sctp_kit.TSN
    return {
        "data": data(peer, b"hello"),
        "row": SPLIT.join(data(peer + number, b"x" * 900, number=number) for number in range(2)),
        "misordered": SPLIT.join([data(peer + 3), data(peer + 1), sack(own), data(peer)]),
        "fragments": data(peer, b"a" * 300, flags=2) + data(peer + 1, b"b", flags=0) + data(peer + 2, b"c", flags=1),
        "unordered": data(peer, b"u", flags=7) + data(peer + 2, b"v", stream=1023, flags=7),
        "sack": sack(own + 1, (2, 3), (5, 5)),
        "sack_all": sack(own + 9),
        "init": sctp_kit.init()[12:],
        "heartbeat": chunk(4, pack("!HH", 1, 8) + b"abcd"),
        "forward": chunk(192, pack("!IHH", peer + 7, 1, 2)) + data(peer + 8),
        "reconfig": chunk(130, pack("!HHIII", 13, 18, peer, 1, peer) + pack("!H", 1)),
        "reconfig_answer": chunk(130, pack("!HHII", 16, 12, own, 1)),
        "abort": chunk(6, b""),
        "shutdown": chunk(7, pack("!I", own)) + SPLIT + chunk(14, b""),
        "cookie": chunk(10, b"c" * 60) + chunk(11, b""),
        "error": chunk(9, pack("!HHI", 3, 8, 9)),
        "unknown": chunk(77, b"1234") + chunk(205, b"1234") + data(peer),
    }


def _streams() -> dict[str, bytes]:
    run = bytes(range(250)) * 4
    return {
        "three": bytes(framing.join(memoryview(run), 400)),
        "empty": b"\0\0\0\0" + bytes(framing.join(memoryview(b"abc"), 3)),
        "longest": b"\x05\xdc" + bytes(1500),
        "too_long": b"\x05\xdd" + bytes(10),
        "unfinished": b"\0\5abc",
    }


def _parameters() -> dict[str, bytes]:
    feedback = [{"type": "nack", "parameter": "pli"}, {"type": "transport-cc"}]
    h264 = {"packetization-mode": 1, "profile-level-id": "42e01f"}
    values = {
        "video": {
            "mid": "0",
            "codecs": [
                {
                    "mimeType": "video/H264",
                    "payloadType": 96,
                    "clockRate": 90000,
                    "parameters": h264,
                    "rtcpFeedback": feedback,
                },
                {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}},
            ],
            "headerExtensions": [{"uri": ortc.MID_URI, "id": 1}, {"uri": ortc.RID_URI, "id": 2}],
            "encodings": [{"rid": "r0"}, {"ssrc": 5, "rtx": {"ssrc": 6}}],
            "rtcp": {"cname": "x"},
        },
        "audio": {
            "mid": "1",
            "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
            "headerExtensions": [{"uri": ortc.AUDIO_LEVEL_URI, "id": 1}],
            "encodings": [{"ssrc": 9}],
        },
        "capabilities": ortc.router_capabilities(),
        "dtls": {"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": ":".join(["AB"] * 32)}]},
        "sctp": ortc_transport.SctpStream(0, False, 0, None).parameters(),
    }
    return {name: json.dumps(value).encode() for name, value in values.items()}


def _offers() -> dict[str, bytes]:
    offers = {file.stem: file.read_bytes() for file in VECTORS.glob("*.sdp")}
    return offers | {
        "fragment": b"a=ice-ufrag:abcd\r\na=ice-pwd:" + b"p" * 22 + b"\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    }


def _vitals() -> dict[str, bytes]:
    return {
        "heart": build_vital(VitalSign(3, "HR", 71.5, "/min", 1_763_760_000_000_000, "ok", True)),
        "pressure": build_vital(VitalSign(3, "NIBP", (120, 80, 93), "mm[Hg]", 5, "questionable", False)),
        "none": build_vital(VitalSign(3, "SpO2", None, "%", 5, "invalid", False)),
        "alarm": build_vital(ReportedAlarm(3, "*** ASYSTOLE 心搏停止", 5, "high", False)),
    }


def _taps() -> dict[str, bytes]:
    frame = build_frame(
        stream_id=7, seq=3, context_version=1, t0_us=5, first_sample=150, sample_rate_mhz=500_000,
        samples=np.arange(20, dtype=np.int16).reshape(2, 10), numbering=9,
    )  # fmt: skip
    vital = build_vital(VitalSign(3, "HR", 71.5, "/min", 5, "ok", True))
    gone = tap.build_record(tap.TapKind.GONE, tap.RANGE.pack(7, 4, 9))
    row = [tap.build_record(kind, frame) for kind in (tap.TapKind.FRAME, tap.TapKind.AGAIN)]
    return {
        "row": b"".join(row) + gone + tap.build_record(tap.TapKind.DROPPED, tap.COUNT.pack(5)),
        "message": tap.build_record(tap.TapKind.MESSAGE, b"\x03abc" + vital),
        "unfinished": gone + row[0][:-1],
        "too_long": tap.HEAD.pack(1, tap.MAX_BODY_BYTES + 1),
        "backwards": tap.build_record(tap.TapKind.GONE, tap.RANGE.pack(7, 9, 4)),
    }


def _sources() -> dict[str, bytes]:
    values = [round(200 * math.exp(-((i % 100 - 50) ** 2) / 18)) + i % 7 for i in range(250)]
    observation = {
        "resourceType": "Observation",
        "component": [
            {
                "code": {"coding": [{"code": "131330"}]},
                "valueSampledData": {
                    "origin": {"value": 0, "code": "uV"}, "period": 4, "factor": 2.5, "dimensions": 1,
                    "data": " ".join(map(str, values)) + " E U L",
                },
            }
        ],
    }  # fmt: skip
    aecg = (
        '<AnnotatedECG xmlns="urn:hl7-org:v3"><component><series><code code="RHYTHM"/><component><sequenceSet>'
        '<component><sequence><code code="TIME_ABSOLUTE"/><value><head value="20260102030405"/>'
        '<increment value="0.004" unit="s"/></value></sequence></component><component><sequence>'
        '<code code="MDC_ECG_LEAD_II"/><value><origin value="0" unit="uV"/><scale value="2.5" unit="uV"/>'
        f"<digits>{' '.join(map(str, values))}</digits></value></sequence></component>"
        "</sequenceSet></component></series></component></AnnotatedECG>"
    )
    oru = (
        "MSH|^~\\&|W||||20260102030410+0800||ORU^R01|1|P|2.6\rPID|||MRN-12\rOBR|1|||x|||20260102030405|20260102030406\r"
        f"OBX|1|NA|131330^^MDC|1.1.1.1|{'^'.join(map(str, values))}^|262419^MDC_DIM_MICRO_VOLT^MDC\r"
        "OBX|2|NM|147842^^MDC|1.1.2.1|78|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20260102030406\r"
    )
    signal = edfio.EdfSignal.from_digital(
        np.array(values, np.int16), 250, label="ECG II", physical_dimension="uV", physical_range=(-16384, 16383.5),
        digital_range=(-32768, 32767),
    )  # fmt: skip
    edf = io.BytesIO()
    edfio.Edf([signal], annotations=[edfio.EdfAnnotation(0.1, None, "x")]).write(edf)
    return {
        "fhir": json.dumps(observation).encode(), "aecg": aecg.encode(), "oru": oru.encode(), "edf": edf.getvalue(),
        "edf_gaps": edf.getvalue().replace(b"EDF+C", b"EDF+D"),
    }  # fmt: skip


async def _records() -> dict[str, bytes]:
    """A handshake, an association and a goodbye as a client's side of DTLS sends them; of each kind the first."""
    records: dict[str, bytes] = {}

    class Recorder(Peer):
        def send_raw(self, datagram: bytes) -> None:
            if 20 <= datagram[0] < 64:
                kind = f"type{datagram[0]}" + (f"_{datagram[13]}" if datagram[0] == 22 else "")
                records.setdefault(kind, datagram)
            super().send_raw(datagram)

    arena = Arena()
    await arena.open()
    client: Any = arena.direct
    for role in ("client", "server"):
        peer = Recorder(client, "r", "send")
        await peer.join(dtls_role=role)
        await peer.send_sctp(sctp_kit.init())
        await peer.close()
    await arena.close()
    return records


def _messages() -> dict[str, bytes]:
    names = ("a01", "a02", "a03", "a40", "oru", "orm", "oml", "mdm", "siu", "ref", "rde")
    found = {name: mllp_frame(seed) for name, seed in zip(names, hl7v2_kit.SEEDS, strict=True)}
    return found | {"two": found["a02"] + b"\n" + found["a03"], "gbk": _gbk(found["a01"]), "no_end": found["oru"][:-2]}


def _gbk(data: bytes) -> bytes:
    return data.decode().replace("UNICODE UTF-8", "GBK").encode("gbk")


def _lock_frames() -> dict[str, bytes]:
    digest = hashlib.sha256(b"body").digest()
    mark = next_mark(lock_wire.GENESIS, 1, "lis", "k", digest)
    frames: dict[str, lock_wire.Frame] = {
        "hello": lock_wire.Hello(
            versions=(1,), gateway="g_1", instance="i", origin="https://hub.example", stream="s", last=3, settled=2,
            nonce=bytes(32), now_us=1, policy="p", software="consilium",
        ),
        "cross": lock_wire.Cross(
            sequence=1, source="lis", kind="ORU^R01", key="k", patient=(("urn:mrn", "1"),),
            about=(("Modality", "ECG"),), media_type="application/fhir+json", made_us=1, received_us=2,
            journaled_us=3, sent_us=4, size=4, digest=digest, mark=mark, body=b"body",
        ),
        "part": lock_wire.Part(sequence=1, offset=65_536, data=b"more"),
        "gap": lock_wire.Gap(first=1, last=3, code="corrupt", mark=mark),
        "ack": lock_wire.Ack(first=1, items=(("applied", "", 5, 6), ("refused", "invalid", 7, 8))),
        "ask": lock_wire.Ask(
            id=1, consult="c1", patient=(("urn:mrn", "1"),), type="Observation", resource_id="",
            params=(("code", "1"),), page="", role="doctor", organisation="hub", purpose="consult",
            timeout_ms=10_000, max_bytes=1_000, max_count=10,
        ),
        "answer": lock_wire.Answer(
            id=1, code="", count=1, next_page="", size=4, digest=digest, body=b"body"
        ),
        "bye": lock_wire.Bye(code="revoked", reason=""),
    }  # fmt: skip
    return {name: lock_wire.encode(frame) for name, frame in frames.items()}


def write() -> int:
    """Write what is missing; returns how many files that were."""
    checks = _checks()
    records = {} if (CORPUS / "dtls").exists() else asyncio.run(_records())
    written = 0
    for target, examples in {
        "stranger": checks | {"dtls": b"\x16\xfe\xfd" + bytes(20), "media": b"\x80\x60" + bytes(30)},
        "stun": checks,
        "rtp": _packets(),
        "payload": _payloads(),
        "dependency": _descriptors(),
        "rtcp": _reports(),
        "generator": _reports(),
        "sctp": _associations(),
        "framing": _streams(),
        "vitals": _vitals(),
        "tap": _taps(),
        "source": _sources(),
        "hl7v2": _messages(),
        "lock": _lock_frames(),
        "ortc": _parameters(),
        "whip": _offers(),
        "dtls": records,
        "fhir_search": {f"query{number}": query for number, query in enumerate(fhir.QUERIES)},
        "fhir_bundle": {"transaction": fhir.bundle()},
    }.items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in examples.items():
            file = CORPUS / target / name
            if not file.exists():
                file.write_bytes(data)
                written += 1
    return written
