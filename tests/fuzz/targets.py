"""What is fuzzed: one line of the table each, with its law.

The first law of all is in `typed`: only the error that the reader promises. What a reader gives back is looked at
too, since the relay believes it: positions lie inside the packet, counts are bounded by its bytes.
"""

import json
import zlib
from collections.abc import Callable
from typing import Any

from media.aio import stun
from media.aio.aiortc_port import NativeBuffer
from media.aio.counters import Counters
from media.aio.mux import Mux
from media.core import (
    codecs,
    dependency,
    framing,
    ortc,
    ortc_transport,
    rtcp,
    rtp,
    sctp,
    sdp,
    shape,
    tap,
    templates,
    twcc,
    whip,
)
from media.core.ortc_fields import OrtcError
from media.core.rewriter import Segment
from media.core.sctp.inbound import HELD_OVERHEAD_BYTES
from media.core.waveform import vitals
from media.sources import SourceError
from media.sources import read as read_recording
from server.gateway.hl7v2.acks import replies, reply_to_bytes
from server.gateway.hl7v2.convert import convert
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.framing import Deframer, Framed, frame
from server.gateway.hl7v2.message import parse
from server.lock.core import wire as lock_wire
from server.lock.core.answers import Answers
from server.lock.core.link import Arrived, Receiver
from tests import hl7v2_kit, sctp_kit
from tests.fuzz.engine import Target
from tests.fuzz.fhir import read_bundle, read_query
from tests.fuzz.generator import Generator

PASSWORD = "p" * 22
HUGE = 1 << 20


def typed(error: type[Exception], reader: Callable[..., Any], *arguments: Any) -> Any:
    """What the reader gives, None when it refuses."""
    try:
        return reader(*arguments)
    except error:
        return None


# ---------------------------------------------------------------- UDP


class _Deaf:
    """A socket that must not be used."""

    def __init__(self) -> None:
        self.buffer = NativeBuffer(4_096)

    def send(self, datagram: bytes, address: object) -> bool:
        raise AssertionError("a stranger was answered")

    def srtp(self, *_: object) -> None:
        raise AssertionError("a stranger's packet was taken for media")


class Stranger:
    """A mux with nobody behind it: whatever comes changes nothing and is not answered."""

    def __init__(self) -> None:
        self._deaf = _Deaf()
        self._mux = Mux(Counters())
        self._mux.attach(self._deaf, self._deaf)  # type: ignore[arg-type]
        self._now_us = 0

    def __call__(self, data: bytes) -> None:
        data = data[:2_000]
        self._deaf.buffer.data[: len(data)] = data
        self._now_us += 1_000_000
        self._mux.datagram(0, len(data), ("192.0.2.1", 40_000), self._now_us)
        assert not self._mux._by_address


def repair_stun(data: bytes) -> bytes:
    """Length, cookie and, where the last attribute is one, FINGERPRINT as they must be (RFC 8489 sections 5, 14.7)."""
    if len(data) < 20:
        return data
    body = data[20 : 20 + (len(data) - 20) // 4 * 4]
    head = data[:2] + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + data[8:20]
    if body[-8:-4] == b"\x80\x28\0\4":
        crc = zlib.crc32(head + body[:-8]) ^ 0x5354554E
        body = body[:-4] + crc.to_bytes(4, "big")
    return head + body


def repair_rtcp(data: bytes) -> bytes:
    """One packet as long as it says."""
    data = data[: len(data) // 4 * 4]
    return data[:2] + (len(data) // 4 - 1).to_bytes(2, "big") + data[4:] if len(data) >= 4 else data


def repair_rtp(data: bytes) -> bytes:
    """With an extension block that ends where the packet does."""
    if len(data) < 16:
        return data
    words = (len(data) - 16) // 4
    return bytes((0x90,)) + data[1:14] + words.to_bytes(2, "big") + data[16:]


def read_stun(data: bytes) -> None:
    """A request is believed only with the key; who has not got it makes none."""
    request = typed(stun.BadStun, stun.parse_binding_request, data)
    if request is None:
        return
    assert not stun.authenticate(request, "another password of 22")
    if stun.authenticate(request, PASSWORD):
        answer = stun.build_success(request, ("192.0.2.1", 40_000), PASSWORD)
        assert len(answer) <= 100


# ---------------------------------------------------------------- RTP and RTCP


def read_rtp(data: bytes) -> None:
    """Positions lie inside the packet."""
    packet = bytearray(data)
    end = len(packet)
    start = rtp.FIXED_HEADER_BYTES + 4 * (packet[0] & 15) if packet else 0
    found = typed(rtp.MalformedPacket, rtp.read_extensions, packet, start, end)
    if found is None:
        return
    elements, after = found
    assert start < after <= end
    for identifier, at, length in elements:
        assert 0 < identifier < 256
        assert start < at <= at + length <= after
    assert len(elements) <= after - start


def read_payload(data: bytes) -> None:
    """The first byte chooses where in a buffer the payload lies; nothing beyond its end is looked at."""
    start = data[0] % 8 if data else 0
    room = bytearray(start) + data[1:]
    end = len(room)
    for codec in codecs.Codec:
        key = codecs.is_key_frame(codec, room, start, end)
        assert key == codecs.is_key_frame(codec, room + b"\xff" * 64, start, end), "read beyond the end"
        codecs.key_frame_size(codec, room, start, end)
        found = shape.read_shape(codec, room, start, end, 0)
        assert found == shape.read_shape(codec, room + b"\xff" * 64, start, end, 0), "read beyond the end"
        picture = found.picture
        if picture is not None:
            assert 0 < picture.at <= end - start - 1 - picture.wide
            assert picture.tl0_at < end - start
            before = bytes(room)
            templates.renumber(room, start, picture, Segment(0, 0, 0, 0, 0))
            assert bytes(room) == before, "counters are read as they are written"


def read_dependency(data: bytes) -> None:
    """Two descriptors, so that the second meets the structure of the first; what is refused changes nothing."""
    reader = dependency.DependencyReader()
    cut = data[0] if data else 0
    for part in (data[1 : 1 + cut], data[1 + cut :]):
        before = reader.structure
        found = typed(dependency.MalformedDescriptor, reader.parse, part)
        if found is None:
            assert reader.structure is before
            continue
        assert len(found.indications) <= 32
        assert reader.structure is not None
        assert len(reader.structure.templates) <= dependency.MAX_TEMPLATES


def read_rtcp(data: bytes) -> None:
    """As many things as the bytes can hold; a feedback's arrivals are bounded by its length, not by its claims."""
    for item in typed(rtcp.MalformedRtcp, rtcp.parse, data) or ():
        match item:
            case rtcp.Nack():
                assert len(item.lost) <= 17 * len(data) // 4
            case rtcp.TransportFeedback():
                feedback = typed(rtcp.MalformedRtcp, twcc.read_feedback, item.fci)
                if feedback is not None:
                    assert len(feedback.offsets) == len(feedback.ticks) <= len(item.fci)
                    assert all(0 <= offset < 0x1_0000 for offset in feedback.offsets)
            case rtcp.Remb():
                assert item.bitrate_bps >= 0


# ---------------------------------------------------------------- SCTP, streams


SPLIT = b"\xfe\xedNEXT"


def read_sctp(data: bytes) -> None:
    """A row of packets to an association with a message on its way; an input is the chunks of each.

    Tag and checksum are made right here, since a hostile peer does that too.
    """
    typed(sctp.SctpRefused, sctp.wire.parse_packet, data)
    end = sctp_kit.established()
    assert end.send(0, 53, bytes(3_000))
    end.flush(0)
    now_us = answered = 0
    for chunks in data.split(SPLIT)[:20]:
        now_us += 10_000
        for packet in (sctp_kit.seal(chunks), sctp_kit.seal(chunks, 0)):
            end.receive(packet, now_us)
        end.tick(now_us)
        answered += sum(len(packet) for packet in end.flush(now_us))
    assert end._inbound.held_bytes <= 4 * len(data) + 2 * HELD_OVERHEAD_BYTES * sctp.wire.MAX_CHUNKS
    assert answered <= 4_000 + 32 * len(data), "what waited, again, and short answers"
    for _ in range(8):
        if (deadline_us := end.deadline_us) is None:
            break
        end.tick(deadline_us)
        end.flush(deadline_us)


def read_frames(data: bytes) -> None:
    """However the stream is cut, the same frames come out, and no more is kept than an unfinished one."""
    whole = typed(framing.MalformedFrame, framing.split, bytearray(data), len(data))
    if whole is not None:
        assert len(data) - whole[1] <= framing.MAX_REST_BYTES
    pieces: list[bytes] = []
    rest = b""
    step = 1 + len(data) // 7
    for start in range(0, len(data), step):
        buffer = bytearray(rest + data[start : start + step])
        found = typed(framing.MalformedFrame, framing.split, buffer, len(buffer))
        if found is None:
            assert whole is None
            return
        pieces += [bytes(buffer[at : at + length]) for at, length in found[0]]
        rest = bytes(buffer[found[1] :])
        assert len(rest) <= framing.MAX_REST_BYTES
    assert whole is not None
    assert pieces == [data[at : at + length] for at, length in whole[0]]


# ---------------------------------------------------------------- parameters


def read_ortc(data: bytes) -> None:
    """JSON of any shape; the first byte of the text chooses the reader."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    for reader in (
        lambda: ortc.parse_producer("video", value),
        lambda: ortc.parse_producer("audio", value),
        lambda: ortc.parse_capabilities(value),
        lambda: ortc_transport.parse_dtls(value),
        lambda: ortc_transport.parse_sctp_stream(value),
    ):
        typed(OrtcError, reader)


_TRANSPORT: dict[str, Any] = {
    "ice_parameters": ortc_transport.ice_parameters("ufrag123", PASSWORD),
    "ice_candidates": [
        {"foundation": "host0", "priority": 9, "ip": "192.0.2.7", "port": 8441, "type": "host", "protocol": "udp"}
    ],
    "dtls_parameters": ortc_transport.dtls_parameters(":".join(["AB"] * 32)),
}


def read_whip(data: bytes) -> None:
    """An offer that is taken is answered with a description that reads well, and holds nothing that was not taken."""
    text = data.decode("utf-8", "replace")
    typed(sdp.SdpError, whip.parse_fragment, text)
    offer = typed(sdp.SdpError, whip.parse_offer, text)
    if offer is None:
        return
    answer = sdp.parse(whip.build_answer(offer, _TRANSPORT, 1))
    assert len(answer.sections) == len(offer.sections)
    for given, said in zip(offer.sections, answer.sections, strict=True):
        assert (said.port == 0) == isinstance(given, sdp.Section)
        assert {"recvonly", "inactive"} & {name for name, _ in said.attributes}
    for source in offer.sources:
        ortc.parse_producer(source.kind, source.rtp_parameters)


def read_vitals(data: bytes) -> None:
    """What passes can be said again, and then it is the same."""
    value = typed(vitals.MalformedVital, vitals.read_vital, data)
    if value is not None:
        assert vitals.read_vital(vitals.build_vital(value)) == value


def read_tap(data: bytes) -> None:
    """However the stream of a worker is cut, the same records come out, and each says something or is refused."""
    whole = typed(tap.MalformedTap, _records, [data])
    step = 1 + len(data) // 7
    pieces = typed(tap.MalformedTap, _records, [data[at : at + step] for at in range(0, len(data), step)])
    assert pieces == whole
    for kind, body in whole or ():
        record = typed(tap.MalformedTap, tap.read_record, kind, body)
        match record:
            case tap.TappedFrame():
                assert record.frame == body
            case tap.TappedMessage():
                assert bytes((len(record.producer),)) + record.producer.encode() + record.message == body
            case tap.TappedGone():
                assert 0 <= record.first <= record.last < 2**32
            case tap.TappedDropped():
                assert 0 <= record.count < 2**32


def _records(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    reader = tap.TapReader()
    return [record for piece in pieces for record in reader.feed(piece)]


def read_source(data: bytes) -> None:
    """An uploaded ECG: a record whose parts fit each other, or one typed error."""
    recording = typed(SourceError, read_recording, data)
    for strip in () if recording is None else recording.strips:
        assert strip.samples.shape == strip.invalid.shape == (len(strip.leads), strip.samples.shape[1])
        assert 1 <= strip.lsb_nv <= 65_535
        assert len(set(strip.names)) == len(strip.names) <= 16


def _lines(*names: str) -> tuple[bytes, ...]:
    return tuple(name.encode() for name in names)


_STUN = (b"\x21\x12\xa4\x42", b"\0\6\0\4", b"\0\x08\0\x14", b"\0\x25\0\0", b"\0\x20\0\x08", b"\x80\x28\0\4")
_RTCP = (
    b"REMB",
    b"\x8f\xcd",
    b"\x81\xcd",
    b"\x81\xce",
    b"\x84\xce",
    b"\x80\xcf",
    b"\x81\xc8",
    b"\x81\xc9",
    b"\x81\xca",
)


def read_hl7v2(data: bytes) -> None:
    """A stream of MLLP: each message is refused by type or becomes a transaction of one patient, and is answered."""
    deframer = Deframer(100_000)
    for found in [*deframer.feed(data[: len(data) // 2]), *deframer.feed(data[len(data) // 2 :]), *deframer.end()]:
        body = found.body if isinstance(found, Framed) else found.head
        made = typed(Hl7Refused, lambda body=body: convert(parse(body, default_charset="GBK"), hl7v2_kit.PROFILE))
        if made is not None:
            crossing = made.crossing()
            assert crossing.patient, "nobody's data"
            assert json.loads(crossing.body)["type"] == "transaction"
        refused = Hl7Refused(Hl7Code.NOT_HL7)
        for answer in replies(reply_to_bytes(body), refused, now=hl7v2_kit.NOW, ids=iter(("G1", "G2"))):
            frame(answer)


# ---------------------------------------------------------------- the lock


def read_lock(data: bytes) -> None:
    """A frame of the lock: what is taken is what would be sent again, and a body is never longer than the frame."""
    found = typed(lock_wire.WireError, lock_wire.decode, data)
    if found is None:
        return
    assert lock_wire.decode(lock_wire.encode(found)) == found
    if isinstance(found, (lock_wire.Cross, lock_wire.Part, lock_wire.Gap)):
        receiver = Receiver(up_to=0, mark=lock_wire.GENESIS)
        arrived = typed(lock_wire.WireError, receiver.take, found, 0)
        if isinstance(arrived, Arrived):
            assert len(arrived.body) == arrived.frame.size <= len(data)
    if isinstance(found, (lock_wire.Answer, lock_wire.AnswerPart)):
        answers = Answers()
        answers.asked(found.id, 1_000)
        whole = typed(lock_wire.WireError, answers.take, found)
        assert whole is None or len(whole.body) <= 1_000


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("stranger", Stranger(), ("media.aio.mux", "media.aio.stun"), _STUN, repair=repair_stun),
        Target("stun", read_stun, ("media.aio.stun", "aioice.stun"), _STUN, repair=repair_stun),
        Target("rtp", read_rtp, ("media.core.rtp",), (b"\xbe\xde", b"\x10\x00", b"\x90"), repair=repair_rtp),
        Target("payload", read_payload, ("media.core.codecs",), (b"\x9d\x01\x2a",)),
        Target("dependency", read_dependency, ("media.core.dependency",), lines_always=20_000, lines_per_byte=300),
        Target("rtcp", read_rtcp, ("media.core.rtcp", "media.core.twcc"), _RTCP, repair=repair_rtcp),
        Target(
            "generator", Generator(), ("media.core.rtcp", "media.core.twcc"), _RTCP, repair=repair_rtcp, share=0.3
        ),
        Target(
            "sctp",
            read_sctp,
            tuple(f"media.core.sctp.{part}" for part in ("wire", "association", "inbound", "outbound")),
            (b"\0\4", b"\xc0\0", b"\xff\xff", SPLIT, sctp_kit.data(sctp_kit.PEER_TSN)),
            lines_per_byte=400,
            lines_always=20_000,
            share=0.25,
        ),
        Target("framing", read_frames, ("media.core.framing",), (b"\x00\x00", b"\x05\xdc", b"\x05\xdd")),
        Target(
            "vitals",
            read_vitals,
            ("media.core.waveform.vitals",),
            (*_lines("vital", "alarm", "NIBP", "Temp", "mm[Hg]", "questionable"), b"\xca\x7f\xc0\0\0", b"\xc3"),
        ),
        Target(
            "tap",
            read_tap,
            ("media.core.tap",),
            (*(tap.build_record(kind, b"") for kind in tap.TapKind), b"EC\x21\x08", tap.RANGE.pack(7, 0, 9)),
        ),
        Target(
            "source",
            read_source,
            tuple(f"media.sources.{part}" for part in ("aecg", "edf", "fhir", "hl7v2", "scale", "checks", "dicom")),
            _lines("<!DOCTYPE", "&x;", "1e99999999", "E U L", "EDF+D", "NaN", "^^", "RHYTHM", "-1", '"', "\r"),
            lines_always=20_000,
            lines_per_byte=200,
            share=0.25,
        ),
        Target(
            "hl7v2",
            read_hl7v2,
            tuple(
                f"server.gateway.hl7v2.{part}"
                for part in (
                    "acks", "adt", "charset", "convert", "datatypes", "documents", "framing", "message", "orders",
                    "oru", "patient", "pharmacy", "referral", "rows", "schedule", "times",
                )
            ),
            _lines("\x0bMSH|^~\\&|", "\x1c\r", "|", "^", "~", "&", "\\X41\\", '""', "\r", "OBX|1|NM|", "PID|", "9" * 8),
            lines_always=40_000,
            lines_per_byte=200,
            share=0.25,
        ),
        Target(
            "lock",
            read_lock,
            ("server.lock.core.wire", "server.lock.core.link", "server.lock.core.answers"),
            (b"\xc0", b"\x90", b"\xdc\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xcf"),
            share=0.5,
        ),
        Target(
            "ortc",
            read_ortc,
            ("media.core.ortc", "media.core.ortc_fields", "media.core.ortc_transport"),
            _lines("null", "[]", "{}", "-1", "1e400", "NaN", "true", '"', '{"":', "4294967296", "1.5", "[[["),
            lines_per_byte=100,
        ),
        Target(
            "whip",
            read_whip,
            ("media.core.sdp", "media.core.whip"),
            _lines("a=", "m=video 9 UDP/TLS/RTP/SAVPF 96\n", "\r\n", "a=mid:", "a=rid:", "a=simulcast:send ", ";", "~",
                   "a=ssrc-group:SIM ", "a=ssrc:", "a=extmap:", "a=rtpmap:", "a=fmtp:", "a=bundle-only\n", "\x85", "0"),
            lines_per_byte=200,
            lines_always=10_000,
        ),
        Target(
            "fhir_search",
            read_query,
            tuple(f"server.record.core.{part}" for part in ("query", "dates", "index", "reach")),
            _lines("_include=", "&date=ge", "&code:not=", "\\,", "%7C", "&_id=", "&_sort=-", ":contains=", "%00"),
            lines_per_byte=200,
            lines_always=20_000,
        ),
        Target(
            "fhir_bundle",
            read_bundle,
            tuple(f"server.record.core.{part}" for part in ("bundle", "resource", "index", "layout", "dates")),
            _lines('"urn:uuid:', "null", '{"reference":', '"Patient/', "[[[", '"request"', "1e400", "\\ud800"),
            lines_per_byte=200,
            lines_always=20_000,
            share=0.1,
        ),
    )
}  # fmt: skip
