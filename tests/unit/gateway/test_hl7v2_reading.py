"""Bytes to fields: framing, character sets, delimiters, escapes, times; and what is refused."""

from collections import Counter
from datetime import UTC, datetime
from itertools import count
from zoneinfo import ZoneInfo

import hl7
import pytest

from server.gateway.hl7v2.acks import answer_of, replies, reply_to, reply_to_bytes
from server.gateway.hl7v2.convert import convert
from server.gateway.hl7v2.errors import SENTENCES, Hl7Code, Hl7Refused
from server.gateway.hl7v2.framing import Cut, Deframer, Flaw, Framed, frame
from server.gateway.hl7v2.message import Message, parse, split_messages
from server.gateway.hl7v2.times import parse_dtm
from tests.hl7v2_kit import PID, PROFILE, converted, message, only

NAME = "欧阳娜娜"


def read(data: bytes, charset: str = "UNICODE UTF-8") -> Message:
    return parse(data, default_charset=charset)


def refusal(data: bytes) -> Hl7Refused:
    with pytest.raises(Hl7Refused) as refused:
        convert(read(data), PROFILE)
    return refused.value


@pytest.mark.parametrize(
    ("ends", "seen"),
    [(b"\r", {}), (b"\n", {"lf": 1}), (b"\r\n", {"crlf": 1}), (b"\r\r", {})],
)
def test_line_ends_are_read_over_and_counted(ends: bytes, seen: dict[str, int]) -> None:
    made = converted(message("ADT^A08").replace(b"\r", ends))
    assert {word: times for word, times in made.seen.items() if word in ("lf", "crlf")} == seen
    assert made.crossing() == converted(message("ADT^A08")).crossing()


def test_bom_blank_lines_and_z_segments_are_read_over_and_counted() -> None:
    made = converted(b"\xef\xbb\xbf" + message("ADT^A08", "", "ZPI|1|local^things", "ZZZ|x"))
    assert (made.seen["bom"], made.seen["z_segment"]) == (1, 2)


@pytest.mark.parametrize(
    ("named", "codec"),
    [("UNICODE UTF-8", "utf-8"), ("GB 18030-2000", "gb18030"), ("GBK", "gbk"), ("GB2312", "gb2312"), ("BIG-5", "big5")],
)
def test_chinese_names_in_the_character_set_of_msh18(named: str, codec: str) -> None:
    """In GBK and Big5 the second byte of a character may be | ^ ~ or a backslash."""
    name = "許功蓋" if codec == "big5" else NAME
    text = message("ADT^A08", charset=named, pid=PID.replace("王^小明", f"{name}^")).decode()
    made = converted(text.encode(codec if codec != "big5" else "big5hkscs", "ignore"))
    assert only(made, "Patient")["name"][0]["text"] == name


def test_characters_with_delimiters_in_them_do_not_split_fields() -> None:
    trail = "".join(bytes((0x81, b)).decode("gbk") for b in (0x7C, 0x5E, 0x7E, 0x5C))
    data = message("ADT^A08", charset="GBK", app=trail, pid=PID.replace("王^小明", f"{trail}^")).decode().encode("gbk")
    assert only(converted(data), "Patient")["name"][0]["text"] == trail


def test_without_msh18_the_configured_character_set_holds() -> None:
    data = message("ADT^A08", charset="", pid=PID.replace("王^小明", f"{NAME}^")).decode().encode("gb18030")
    assert read(data, "GB 18030-2000").first("PID").v(5) == NAME  # type: ignore[union-attr]


def test_ascii_that_is_none_is_read_by_the_site_default_and_counted() -> None:
    data = message("ADT^A08", charset="ASCII", pid=PID.replace("王^小明", f"{NAME}^"))
    made = converted(data)
    assert only(made, "Patient")["name"][0]["text"] == NAME
    assert made.seen["not_ascii"] == 1


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "ASCII", "UNICODE UTF-16", "KLINGON", ""])
def test_text_that_is_not_in_its_character_set_is_refused_not_repaired(charset: str) -> None:
    data = message("ADT^A08", charset=charset).decode().replace("王^小明", f"{NAME}^").encode("gb18030")
    assert refusal(data).code is Hl7Code.CHARSET


@pytest.mark.parametrize("charset", ["8859/1", "8859/15", "GBK", "GB 18030-2000", "BIG-5"])
def test_utf8_that_calls_itself_something_else_is_refused(charset: str) -> None:
    """Read as declared, a name would be other words, and nobody would be told."""
    data = message("ADT^A08", charset=charset, pid=PID.replace("王^小明", "王^明"))
    assert refusal(data).code is Hl7Code.CHARSET


def test_what_windows_writes_as_8859_is_read_as_it_is_meant() -> None:
    data = message("ADT^A08", charset="8859/1", pid=PID.replace("王^小明", "Müller^5–10")).decode().encode("cp1252")
    made = converted(data)
    name = only(made, "Patient")["name"][0]
    assert (name["family"], name["given"]) == ("Müller", ["5–10"])
    assert made.seen["windows_1252"] == 1
    assert refusal(data.replace(b"8859/1", b"8859/2")).code is Hl7Code.CHARSET


def test_escape_sequences() -> None:
    pid = PID.replace("王^小明", r"A\F\B\S\C\T\D\R\E\E\F\X4142\G\H\H\N\I^C:\temp")
    made = converted(message("ADT^A08", pid=pid))
    name = only(made, "Patient")["name"][0]
    assert name["family"] == "A|B^C&D~E\\FABGHI"
    assert name["given"] == [r"C:\temp"], "a lone backslash is a text's own"


def test_hex_escapes_are_in_the_message_character_set() -> None:
    sent = NAME.encode("gb18030").hex()
    data = message("ADT^A08", charset="GBK").decode().replace("王^小明", rf"\X{sent}\^").encode("gbk")
    assert only(converted(data), "Patient")["name"][0]["text"] == NAME


def test_control_characters_never_reach_fhir() -> None:
    made = converted(message("ADT^A08", pid=PID.replace("Xiaoming", r"Xiao\X00\\X1B\ming")))
    assert only(made, "Patient")["name"][1]["given"] == ["Xiaoming"]
    assert made.seen["control_character"] > 0


def test_other_delimiters_and_missing_ones() -> None:
    data = message("ADT^A08").decode()
    other = data.translate(str.maketrans("|^~\\&", "#@!$%"))
    assert converted(other.encode()).patient == converted(data.encode()).patient
    assert converted(data.replace("MSH|^~\\&|", "MSH|^~\\|", 1).encode()).seen["short_msh2"] == 1
    assert converted(data.replace("MSH|^~\\&|", "MSH|^~\\&#|", 1).encode()).patient[0][1] == "10042"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Hl7Code.NOT_HL7),
        (b"GET / HTTP/1.1\r\n\r\n", Hl7Code.NOT_HL7),
        (b"MSH", Hl7Code.DELIMITERS),
        (b"MSH|", Hl7Code.DELIMITERS),
        (b"MSH|^~\\&", Hl7Code.REQUIRED_FIELD),
        (b"MSH|^^\\&|A|B\rPID|1", Hl7Code.DELIMITERS),
        (b"MSHA^~\\&AXAYA\rPIDA1", Hl7Code.DELIMITERS),
        (b"MSH|^~\\&amp;|A|B\rPID|1", Hl7Code.DELIMITERS),
        (message("ADT^A08").replace(b"PID|", b"Pid|"), Hl7Code.SEGMENT),
        (message("ADT^A08").replace(b"PID|", b"PID^"), Hl7Code.SEGMENT),
        (message("ADT^A08") + message("ADT^A08"), Hl7Code.SEGMENT),
        (message("ADT^A08", pid=""), Hl7Code.SEGMENT),
        (message("ADT^A08")[:40], Hl7Code.REQUIRED_FIELD),
        (message("ADT^A08", control=""), Hl7Code.REQUIRED_FIELD),
        (message("ADT^A99"), Hl7Code.EVENT),
        (message("QRY^A19"), Hl7Code.MESSAGE_TYPE),
        (message("ACK^A01"), Hl7Code.MESSAGE_TYPE),
        (message("ADT^A08").replace(b"|2.5.1|", b"|3.0|"), Hl7Code.VERSION),
        (message("ADT^A08", processing="X"), Hl7Code.PROCESSING_ID),
        (message("ORU^R01"), Hl7Code.SEGMENT),
        (message("MDM^T02", "TXA|1|DS"), Hl7Code.REQUIRED_FIELD),
        (message("ADT^A08") + b"NTE|1\r" * 20_001, Hl7Code.TOO_LARGE),
        (message("ADT^A08", pid=PID.replace("A778", "A778") + "~" * 2000 + "x").replace(b"10042", b"1" + b"~" * 1001),
         Hl7Code.TOO_LARGE),
    ],
    ids=lambda value: value.value if isinstance(value, Hl7Code) else "",
)  # fmt: skip
def test_what_is_no_message_is_refused_by_name(data: bytes, code: Hl7Code) -> None:
    refused = refusal(data)
    assert refused.code is code
    assert all((refused.en, refused.zh))
    assert len(refused.condition.value) == 3


def test_every_refusal_has_words_in_both_languages() -> None:
    assert set(SENTENCES) == set(Hl7Code)


def test_a_line_break_inside_a_text_is_part_of_it_and_anywhere_else_refused() -> None:
    data = message("ORU^R01", "OBR|1||F1|X^Y^L", "OBX|1|TX|X^Y^L||one\ntwo||||||F", "OBX|2|ST|Z^Z^L||a\rb||||||F")
    made = converted(data)
    values = [e["resource"].get("valueString") for e in made.bundle["entry"]]
    assert "one\ntwo" in values
    assert made.seen["line_break_in_text"] == 1
    assert refusal(message("ADT^A08").replace(b"Xinhua", b"Xin\rhua")).code is Hl7Code.SEGMENT


@pytest.mark.parametrize(
    ("text", "date_time"),
    [
        ("2026", "2026"), ("202603", "2026-03"), ("20260314", "2026-03-14"), ("2026031415", "2026-03-14T15:00:00+08:00"),  # noqa: E501 -- a segment is one line
        ("202603141509", "2026-03-14T15:09:00+08:00"), ("20260314150926.5", "2026-03-14T15:09:26.500000+08:00"),
        ("20260314150926-0500", "2026-03-14T15:09:26-05:00"), ("20161231235960", "2016-12-31T23:59:59+08:00"),
        ("18500101120000", "1850-01-01T12:00:00+08:06"),
        ("20260231", None), ("2026031425", None), ("00000000", None), ("20260314150926+2500", None), ("today", None),
        ("20260314150999", None), ("0001010100+1400", None), ("２０２６", None),
    ],
)  # fmt: skip
def test_times_keep_their_precision_and_zone(text: str, date_time: str | None) -> None:
    found = parse_dtm(text, ZoneInfo("Asia/Shanghai"))
    assert (found and found.date_time) == date_time


def test_the_sender_zone_of_msh7_holds_for_the_whole_message() -> None:
    """Chapter 2: a time without an offset is in the zone of MSH-7."""
    data = message("ORU^R01", "OBR|1||F1|X^Y^L|||20260314080000|||||||||||||||||F", "OBX|1|NM|A^B^L||1||||||F")
    moved = data.replace(b"20260314150926+0800", b"20260314150926-0330")
    assert only(converted(moved), "Observation")["effectiveDateTime"] == "2026-03-14T08:00:00-03:30"
    here = data.replace(b"20260314150926+0800", b"20260314150926")
    assert only(converted(here), "Observation")["effectiveDateTime"] == "2026-03-14T08:00:00+08:00"


def test_old_messages_name_their_event_in_evn() -> None:
    data = message("ADT^A08").replace(b"ADT^A08^ADT_A08", b"ADT").replace(b"|2.5.1|", b"|2.1|")
    assert converted(data).kind == "ADT^A08"


def test_batches_are_split_without_their_wrappers() -> None:
    one, two = message("ADT^A08"), message("ADT^A08", control="C2")
    batch = b"FHS|^~\\&|\nBHS|^~\\&|\n" + one.replace(b"\r", b"\n") + two.replace(b"\r", b"\n") + b"BTS|2\nFTS|1\n"
    assert [read(part).msh.v(10) for part in split_messages(batch, 10)] == ["C1", "C2"]
    with pytest.raises(Hl7Refused):
        split_messages(batch, 1)
    with pytest.raises(Hl7Refused):
        split_messages(b"PID|1\r" + one, 10)


# ---------------------------------------------------------------- framing


def bodies(found: list[Framed | Cut]) -> list[bytes]:
    return [one.body for one in found if isinstance(one, Framed)]


def test_framing_two_in_one_read_and_garbage_between() -> None:
    deframer = Deframer(100)
    found = deframer.feed(b"noise" + frame(b"one") + b"\r\n" + frame(b"two") + b"more")
    assert bodies(found) == [b"one", b"two"]
    assert deframer.flaws[Flaw.GARBAGE] == 2, "line ends between messages are nobody's mistake worth counting"


def test_framing_without_cr_and_without_fs() -> None:
    deframer = Deframer(100)
    assert bodies(deframer.feed(b"\x0bone\x1c\x0btwo\x1c\r")) == [b"one", b"two"]
    assert deframer.flaws[Flaw.NO_CR] == 1
    found = deframer.feed(b"\x0bhalf\x0bwhole\x1c\r")
    assert found == [Cut(b"half", Flaw.NO_FS), Framed(b"whole")], "half a message is never used"
    assert bodies(deframer.feed(b"\x0b" * 5000 + frame(b"next"))) == [b"next"]
    assert deframer.flaws[Flaw.NO_FS] == 5001
    deframer.feed(b"\x0bcut off")
    assert deframer.end() == [Cut(b"cut off", Flaw.NO_FS)]


def test_a_message_beyond_the_bound_is_passed_over_with_a_bounded_buffer() -> None:
    deframer = Deframer(1000)
    found = deframer.feed(b"\x0bMSH|head")
    held = 0
    for _ in range(1000):
        found += deframer.feed(b"x" * 10_000)
        held = max(held, len(deframer._buffer))
    found += deframer.feed(b"\x1c\r" + frame(b"next"))
    assert [one.flaw for one in found if isinstance(one, Cut)] == [Flaw.TOO_LARGE]
    assert bodies(found) == [b"next"]
    assert held <= 11_008


# ---------------------------------------------------------------- acknowledgements

NOW = datetime(2026, 3, 14, 7, 9, 26, tzinfo=UTC)


def acks(data: bytes, problem: Hl7Refused | None) -> list[list[list[str]]]:
    made = replies(reply_to(read(data)), problem, now=NOW, ids=(f"G{n}" for n in count(1)))
    return [[line.split("|") for line in one.decode().split("\r") if line] for one in made]


def with_modes(accept: str, application: str) -> bytes:
    return message("ADT^A08").replace(b"|2.5.1||||||", f"|2.5.1|||{accept}|{application}||".encode())


def test_original_mode_echoes_control_id_and_turns_addresses_round() -> None:
    ((msh, msa),) = acks(message("ADT^A08", control="M-7"), None)
    assert msh[2:6] == ["GW", "HUB", "HIS", "H1"]
    assert (msh[8], msh[9], msh[11]) == ("ACK^A08^ACK", "G1", "2.5.1")
    assert msa == ["MSA", "AA", "M-7"]
    ((_, msa, err),) = acks(message("ADT^A08"), Hl7Refused(Hl7Code.PATIENT_IDENTIFIER, "PID-3"))
    assert msa[1:3] == ["AR", "C1"]
    assert (err[2], err[3].split("^")[0], err[4]) == ("PID^1^3", "204", "E")
    ((_, msa, _),) = acks(message("ADT^A08"), Hl7Refused(Hl7Code.FULL))
    assert msa[1] == "AE", "what may be taken later is asked for again"


@pytest.mark.parametrize(
    ("accept", "application", "taken", "refused"),
    [
        ("AL", "NE", ["CA"], ["CR"]), ("AL", "AL", ["CA", "AA"], ["CR", "AR"]), ("NE", "AL", ["AA"], ["AR"]),
        ("NE", "NE", [], []), ("ER", "ER", [], ["CR", "AR"]), ("SU", "", ["CA"], []), ("ER", "", [], ["CR"]),
    ],
)  # fmt: skip
def test_enhanced_mode_as_msh15_and_msh16_ask(
    accept: str, application: str, taken: list[str], refused: list[str]
) -> None:
    data = with_modes(accept, application)
    assert [ack[1][1] for ack in acks(data, None)] == taken
    assert [ack[1][1] for ack in acks(data, Hl7Refused(Hl7Code.EVENT, "MSH-9.2"))] == refused


def test_a_nak_finds_the_control_id_in_what_cannot_be_parsed() -> None:
    header = message("ADT^A08", control="M-9").split(b"\r")[0]
    (nak,) = replies(reply_to_bytes(header), Hl7Refused(Hl7Code.TOO_LARGE), now=NOW, ids=iter(["G1"]))
    answer = answer_of(read(nak))
    assert answer is not None
    assert (answer.code.value, answer.control_id, answer.text) == ("AR", "M-9", "too_large")
    for junk in (b"", b"MSH|", b"\xff\xfe\x00", b"MSH|^~\\&" + b"|" * 5000, header.replace(b"M-9", b"M\x009")):
        (nak,) = replies(reply_to_bytes(junk), Hl7Refused(Hl7Code.NOT_HL7), now=NOW, ids=iter(["G1"]))
        assert answer_of(read(nak)) is not None


def test_an_answer_repeats_no_delimiters_and_no_lines_of_its_sender() -> None:
    data = message("ADT^A08").replace(b"ADT^A08^ADT_A08", rb"ADT^A\F\08\X0D\MSA")
    data = data.replace(b"|2.5.1|", rb"|2.5\X0D\MSA\F\AA|").replace(b"|HIS|", b"|HIS\nMSA|")
    ((msh, msa),) = acks(data, None)
    assert (msh[4], msh[8], msh[11], msa) == ("HISMSA", "ACK", "2.5", ["MSA", "AA", "C1"])
    assert refusal(message("ADT^A08", control="A\nB")).place == "MSH-10"


def test_a_foreign_parser_reads_our_answers() -> None:
    (ack,) = replies(reply_to(read(message("ADT^A08"))), None, now=NOW, ids=iter(["G1"]))
    found = hl7.parse(ack.decode())
    assert (str(found.segment("MSA")[1]), str(found.segment("MSA")[2])) == ("AA", "C1")
    assert found.segment("MSH")[18] == ["UNICODE UTF-8"]


def test_counts_are_words_not_values() -> None:
    """[G8] What was tolerated becomes a metric's label: it never holds a value of the message."""
    seen: Counter[str] = converted(message("ORU^R01", "OBR|1||F1|X^Y^NOPE", "OBX|1|NM|A^B^NOPE||zzz||||||F")).seen
    assert set(seen) <= {"coding_system_unknown", "nm_not_a_number"}
