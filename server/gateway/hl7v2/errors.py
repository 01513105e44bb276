"""Why a message is not taken: a stable code, HL7's error condition (table 0357), and whether to send it again."""

from enum import StrEnum


class Condition(StrEnum):
    """HL7 table 0357, the part that is used."""

    SEQUENCE = "100"
    REQUIRED = "101"
    DATA_TYPE = "102"
    TABLE_VALUE = "103"
    MESSAGE_TYPE = "200"
    EVENT_CODE = "201"
    PROCESSING_ID = "202"
    VERSION = "203"
    UNKNOWN_KEY = "204"
    DUPLICATE_KEY = "205"
    INTERNAL = "207"


class Hl7Code(StrEnum):
    """Stable; counted and written into ERR-8 and the log. The sentence beside it is for the interface's operator."""

    NOT_HL7 = "not_hl7"
    DELIMITERS = "delimiters"
    SEGMENT = "segment"
    TOO_LARGE = "too_large"
    CHARSET = "charset"
    MESSAGE_TYPE = "message_type"
    EVENT = "event"
    VERSION = "version"
    PROCESSING_ID = "processing_id"
    TEST_PATIENT = "test_patient"
    REQUIRED_FIELD = "required_field"
    VALUE = "value"
    PATIENT_IDENTIFIER = "patient_identifier"
    NOT_ALLOWED = "not_allowed"
    KEY_REUSED = "key_reused"
    FULL = "full"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


SENTENCES: dict[Hl7Code, tuple[str, str]] = {
    Hl7Code.NOT_HL7: ("This is not an HL7 v2 message.", "不是 HL7 v2 消息。"),
    Hl7Code.DELIMITERS: ("MSH-1 or MSH-2 declares delimiters that cannot be.", "MSH-1 或 MSH-2 声明的分隔符无效。"),
    Hl7Code.SEGMENT: ("A line is not a segment, or segments are out of order.", "存在无效的段，或段顺序错误。"),
    Hl7Code.TOO_LARGE: ("The message is larger than is taken.", "消息超过允许的大小。"),
    Hl7Code.CHARSET: ("The text is not in the character set that MSH-18 names.", "文本与 MSH-18 声明的字符集不符。"),
    Hl7Code.MESSAGE_TYPE: ("This message type is not taken.", "不支持该消息类型。"),
    Hl7Code.EVENT: ("This trigger event is not taken.", "不支持该触发事件。"),
    Hl7Code.VERSION: ("This HL7 version is not taken.", "不支持该 HL7 版本。"),
    Hl7Code.PROCESSING_ID: ("MSH-11 must be P, D or T.", "MSH-11 必须为 P、D 或 T。"),
    Hl7Code.TEST_PATIENT: ("A test message may only concern a test patient.", "测试消息只能用于测试患者。"),
    Hl7Code.REQUIRED_FIELD: ("A field without which this message has no meaning is empty.", "缺少必填字段。"),
    Hl7Code.VALUE: ("A field holds what its type does not allow.", "字段值不符合其数据类型。"),
    Hl7Code.PATIENT_IDENTIFIER: (
        "No patient identifier has a known assigning authority.",
        "没有任何患者标识具有已知的签发机构。",
    ),
    Hl7Code.NOT_ALLOWED: ("The policy does not let this message type cross.", "策略不允许该类消息通过。"),
    Hl7Code.KEY_REUSED: ("The control id was used for another message.", "消息控制号已被另一条消息使用。"),
    Hl7Code.FULL: ("The queue is full; send it again later.", "队列已满，请稍后重发。"),
    Hl7Code.UNAVAILABLE: ("It cannot be stored now; send it again later.", "暂时无法存储，请稍后重发。"),
    Hl7Code.INTERNAL: ("The gateway failed; send it again later.", "网关内部错误，请稍后重发。"),
}

_CONDITIONS: dict[Hl7Code, Condition] = {
    Hl7Code.NOT_HL7: Condition.SEQUENCE,
    Hl7Code.DELIMITERS: Condition.DATA_TYPE,
    Hl7Code.SEGMENT: Condition.SEQUENCE,
    Hl7Code.CHARSET: Condition.DATA_TYPE,
    Hl7Code.MESSAGE_TYPE: Condition.MESSAGE_TYPE,
    Hl7Code.EVENT: Condition.EVENT_CODE,
    Hl7Code.VERSION: Condition.VERSION,
    Hl7Code.PROCESSING_ID: Condition.PROCESSING_ID,
    Hl7Code.TEST_PATIENT: Condition.PROCESSING_ID,
    Hl7Code.REQUIRED_FIELD: Condition.REQUIRED,
    Hl7Code.VALUE: Condition.DATA_TYPE,
    Hl7Code.PATIENT_IDENTIFIER: Condition.UNKNOWN_KEY,
    Hl7Code.NOT_ALLOWED: Condition.MESSAGE_TYPE,
    Hl7Code.KEY_REUSED: Condition.DUPLICATE_KEY,
}

AGAIN = frozenset({Hl7Code.FULL, Hl7Code.UNAVAILABLE, Hl7Code.INTERNAL})
"""The same message may be taken later: answered AE, which senders repeat. Everything else is AR, which they do not."""


class Hl7Refused(Exception):
    """A message is not taken.

    Args:
        code: stable.
        place: segment and field, ``PID-3``; never a value (G8).
    """

    def __init__(self, code: Hl7Code, place: str = "") -> None:
        super().__init__(f"{code.value} {place}".rstrip())
        self.code = code
        self.place = place

    @property
    def condition(self) -> Condition:
        """HL7's own code of the error."""
        return _CONDITIONS.get(self.code, Condition.INTERNAL)

    @property
    def again(self) -> bool:
        """Whether the sender should repeat it later."""
        return self.code in AGAIN

    @property
    def en(self) -> str:
        """One sentence in English."""
        return SENTENCES[self.code][0]

    @property
    def zh(self) -> str:
        """The same in Chinese."""
        return SENTENCES[self.code][1]
