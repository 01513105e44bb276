"""Laws of the HL7 v2 interface: whatever the bytes, a typed refusal or a valid bundle; any text survives."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import hl7
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.gateway.hl7v2.acks import replies, reply_to_bytes
from server.gateway.hl7v2.convert import Converted, convert
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.framing import Cut, Deframer, Flaw, Framed, frame
from server.gateway.hl7v2.message import parse
from server.gateway.hl7v2.outgoing import escaped
from server.gateway.hl7v2.times import parse_dtm
from server.record.core.bundle import read_condition
from server.record.core.query import TokenValue, parse_query
from tests.hl7v2_kit import MRN, NOW, PID, PROFILE, SEEDS, check, converted, message, only

body = st.binary(min_size=1, max_size=60).filter(lambda data: b"\x0b" not in data and b"\x1c" not in data)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\ufffe\uffff"))


@given(st.lists(body, max_size=6), st.data())
def test_messages_survive_any_cut_of_the_stream(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"\r\n".join(frame(one) for one in sent)
    deframer, found, at = Deframer(60), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 40))
        found += deframer.feed(stream[at : at + size])
        at += size
    assert found == [Framed(one) for one in sent]
    assert not any(deframer.flaws.values())


@given(st.lists(st.one_of(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n"]), st.binary(max_size=30)), max_size=30))
def test_framing_never_keeps_more_than_its_bound_and_never_joins_two_messages(pieces: list[bytes]) -> None:
    deframer = Deframer(40)
    found = [one for piece in pieces for one in deframer.feed(piece)] + deframer.end()
    assert len(deframer._buffer) <= 40 + 30
    for one in found:
        held = one.body if isinstance(one, Framed) else one.head
        assert not {0x0B, 0x1C} & set(held)
        assert len(held) <= 40 or (isinstance(one, Cut) and one.flaw is not Flaw.NO_FS)
    stream = b"".join(pieces)
    assert all(one.body in stream for one in found if isinstance(one, Framed))


@given(st.one_of(words, st.just('""'), st.sampled_from(["|^~\\&", "a\\b", "\\.br\\"])))
def test_any_text_survives_there_and_back(text: str) -> None:
    text = text.strip()
    pid = PID.replace("王^小明", escaped(text) + "^x")
    name = only(converted(message("ADT^A08", pid=pid)), "Patient")["name"][0]
    assert name.get("family", "") == text


def _characters(codec: str) -> list[str]:
    """Some of a character set, those with a delimiter's byte in them first."""
    found: list[tuple[bool, str]] = []
    for code in range(0x4E00, 0x9FA6, 3):
        try:
            found.append((not set(chr(code).encode(codec)) & set(b"|^~\\&"), chr(code)))
        except UnicodeEncodeError:
            continue
    return [sign for _plain, sign in sorted(found)[:2_000]]


def _could_be_utf8(data: bytes) -> bool:
    try:
        return any(sign > "\u07ff" for sign in data.decode())
    except UnicodeDecodeError:
        return False


CODECS = {"GBK": "gbk", "GB 18030-2000": "gb18030", "BIG-5": "big5hkscs", "UNICODE UTF-8": "utf-8"}
CHARACTERS = {named: _characters(codec) for named, codec in CODECS.items()}


@given(st.sampled_from(sorted(CODECS)), st.data(), st.sampled_from(["app", "name"]))
def test_any_text_of_a_character_set_survives_it(named: str, data: st.DataObject, where: str) -> None:
    """Second bytes of GBK and Big5 may be delimiters; in the header too."""
    text = data.draw(st.text(st.sampled_from(CHARACTERS[named]), min_size=1, max_size=12))
    pid = PID.replace("王^小明", f"{text}^") if where == "name" else PID
    sent = message("ADT^A08", charset=named, pid=pid, app=text if where == "app" else "HIS").decode()
    data_ = sent.encode(CODECS[named])
    assume(named == "UNICODE UTF-8" or not _could_be_utf8(data_))
    made = converted(data_)
    assert only(made, "Patient")["name"][0]["text"] == (text if where == "name" else "王小明")
    assert made.key.split("|")[0] == (text if where == "app" else "HIS")


@given(st.lists(st.lists(st.sampled_from(["a", "^", "&", "~", "\\T\\", "", "b c"]), max_size=5), max_size=8))
def test_fields_are_those_that_a_foreign_parser_finds(fields: list[list[str]]) -> None:
    line = "NTE|" + "|".join("".join(field) for field in fields)
    data = message("ADT^A08", line)
    ours = next(parse(data, default_charset="UNICODE UTF-8").named("NTE"))
    theirs = hl7.parse(data.decode()).segment("NTE")
    for number in range(1, len(fields) + 1):
        assert ours.raw(number) == str(theirs[number])


@given(st.text("0123456789+-.", max_size=26))
def test_a_time_is_none_or_valid_fhir(text: str) -> None:
    found = parse_dtm(text, PROFILE.tz)
    if found is not None:
        fhir = r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d)?)?)?"
        assert re.fullmatch(fhir, found.date_time)
        assert found.unix_us >= 0


def outcome(data: bytes) -> Converted | Hl7Refused:
    """What becomes of bytes; any other error is a broken law."""
    try:
        return convert(parse(data, default_charset=PROFILE.charset), PROFILE)
    except Hl7Refused as refused:
        return refused


def asked_for(made: Converted) -> set[tuple[str, str]]:
    """Whom the bundle's Patient condition finds, read as the hub reads it."""
    (entry,) = [one for one in made.bundle["entry"] if one["resource"]["resourceType"] == "Patient"]
    asked = entry["request"].get("ifNoneExist") or entry["request"]["url"].partition("?")[2]
    (criterion,) = parse_query("Patient", read_condition(asked)).criteria
    return {(one.system or "", one.code) for one in criterion.values if isinstance(one, TokenValue)}


numbers = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12)


@settings(max_examples=60)
@given(numbers, numbers, st.sampled_from([seed for seed in SEEDS if b"A40" not in seed]))
def test_two_numbers_are_two_patients_and_share_nothing(one: str, other: str, seed: bytes) -> None:
    """No number, whatever its signs, finds, names or overwrites what belongs to another."""
    assume(one != other and not {one, other} & {'""'})
    first, second = (converted(seed.replace(b"|10042^", f"|{escaped(number)}^".encode())) for number in (one, other))
    assert (asked_for(first), asked_for(second)) == ({(MRN, one)}, {(MRN, other)})
    assert first.patient[0] != second.patient[0]
    ids = [{e["resource"]["id"] for e in made.bundle["entry"] if "id" in e["resource"]} for made in (first, second)]
    assert not ids[0] & ids[1]


def _cut(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + data[at + size :]


def _put(data: bytes, at: int, what: bytes) -> bytes:
    return data[:at] + what + data[at:]


changes: st.SearchStrategy[Callable[[bytes], bytes]] = st.one_of(
    st.builds(lambda at, size: lambda data: _cut(data, at % len(data), size) if data else data,
              st.integers(0, 5000), st.integers(1, 60)),
    st.builds(lambda at, what: lambda data: _put(data, at % (len(data) + 1), what), st.integers(0, 5000),
              st.sampled_from([b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b'""', b"\xff", b"\x00", b"9" * 30, b"PID|",
                               b"OBX|1|NM|", b"\\X41\\", b"\\.br\\", b"-1", b"^^^^^", b"\xe4"])),
    st.builds(lambda at, size: lambda data: data + data[at % len(data) :][:size] if data else data,
              st.integers(0, 5000), st.integers(1, 300)),
)  # fmt: skip


@settings(max_examples=250)
@given(st.sampled_from(SEEDS), st.lists(changes, max_size=6))
def test_whatever_the_bytes_a_typed_refusal_or_a_valid_bundle(
    seed: bytes, made: list[Callable[[bytes], bytes]]
) -> None:
    data = seed
    for change in made:
        data = change(data)
    found = outcome(data)
    if isinstance(found, Hl7Refused):
        assert found.code in Hl7Code
        assert re.fullmatch(r"([A-Z0-9]{3}(-\d+(\.\d+)?)?)?", found.place), "a place, never a value (G8)"
    else:
        check(found)
        again = outcome(data)
        assert isinstance(again, Converted)
        assert again.crossing() == found.crossing(), "the same bytes are the same crossing"
        assert asked_for(found) == {found.patient[0]}
    for answer in replies(reply_to_bytes(data), Hl7Refused(Hl7Code.NOT_HL7), now=NOW, ids=iter(["G1"])):
        frame(answer)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_refused_by_type(data: bytes) -> None:
    for start in (b"", b"MSH|^~\\&|"):
        outcome(start + data)
        frame(replies(reply_to_bytes(start + data), Hl7Refused(Hl7Code.NOT_HL7), now=NOW, ids=iter(["G1"]))[0])


@given(st.permutations(["10042^^^HIS^MR", "77^^^OLDHIS^MR", "N-1^^^NOBODY^XX"]))
def test_the_primary_authority_decides_whatever_the_order(repetitions: list[str]) -> None:
    """A report is the same resource however the sender orders PID-3."""
    result = ("OBR|1||F1|X^Y^L", "OBX|1|NM|A^B^L||1||||||F")
    other = message("ORU^R01", *result, pid=PID.replace("10042^^^HIS^MR", "~".join(repetitions)))
    made = converted(other, replace(PROFILE, primary_system=MRN))
    assert made.patient[0] == (MRN, "10042")
    assert only(made, "Observation")["id"] == only(converted(message("ORU^R01", *result)), "Observation")["id"]


def test_the_seeds_are_good_messages() -> None:
    for seed in SEEDS:
        assert json.loads(converted(seed).crossing().body)["type"] == "transaction"
