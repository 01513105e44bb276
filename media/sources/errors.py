"""What may be wrong with a file, a message or a live source; each with a stable code and a sentence to show."""

from enum import StrEnum


class SourceErrorCode(StrEnum):
    """Stable codes; a caller may translate them further, never parse the sentence."""

    UNKNOWN_FORMAT = "source_unknown_format"
    MALFORMED = "source_malformed"
    TRUNCATED = "source_truncated"
    TOO_LARGE = "source_too_large"
    UNSUPPORTED = "source_unsupported"
    NOT_INSTALLED = "source_not_installed"
    UNSAFE = "source_unsafe"
    FILE_MISSING = "source_file_missing"
    NO_ECG = "source_no_ecg"
    NO_RHYTHM = "source_no_rhythm"
    SCALE_UNKNOWN = "source_scale_unknown"
    SCALE_LOSSY = "source_scale_lossy"
    RATE = "source_rate"
    NOT_FOUND = "source_not_found"
    LOST = "source_lost"


_SENTENCES: dict[SourceErrorCode, tuple[str, str]] = {
    SourceErrorCode.UNKNOWN_FORMAT: ("This is not an ECG file of a known format.", "无法识别的心电文件格式。"),
    SourceErrorCode.MALFORMED: ("The file is damaged or not what it says it is.", "文件已损坏，或与其声明的格式不符。"),
    SourceErrorCode.TRUNCATED: ("The file ends before its data is complete.", "文件不完整，数据提前结束。"),
    SourceErrorCode.TOO_LARGE: ("The file is larger than may be imported.", "文件过大，无法导入。"),
    SourceErrorCode.UNSUPPORTED: ("This variant of the format is not supported.", "不支持该格式的这一变体。"),
    SourceErrorCode.NOT_INSTALLED: (
        "Reading this kind of source needs an optional part that is not installed.",
        "读取此类来源所需的可选组件未安装。",
    ),
    SourceErrorCode.UNSAFE: (
        "The file has parts that are refused for safety (DTD, entity, outside path).",
        "文件含有出于安全原因被拒绝的内容（DTD、实体或外部路径）。",
    ),
    SourceErrorCode.FILE_MISSING: ("A file that belongs to the record is missing.", "缺少该记录所需的文件。"),
    SourceErrorCode.NO_ECG: ("No ECG lead was found in it.", "未找到心电导联。"),
    SourceErrorCode.NO_RHYTHM: (
        "It holds no recorded rhythm, only averaged or derived beats.",
        "文件中没有实际记录的节律，只有平均或推导的心搏。",
    ),
    SourceErrorCode.SCALE_UNKNOWN: (
        "The scale or unit of a lead is missing or unknown, so it cannot be shown in millivolts.",
        "导联的定标或单位缺失或未知，无法以毫伏显示。",
    ),
    SourceErrorCode.SCALE_LOSSY: (
        "The values of a lead cannot be carried without loss.",
        "导联数值无法无损传输。",
    ),
    SourceErrorCode.RATE: ("The sample rate is missing or out of range.", "采样率缺失或超出范围。"),
    SourceErrorCode.NOT_FOUND: ("The live source was not found.", "未找到实时信号源。"),
    SourceErrorCode.LOST: ("The live source stopped sending.", "实时信号源已停止发送。"),
}  # fmt: skip


class SourceError(Exception):
    """A source cannot be read; the only error a reader raises, whatever the bytes.

    Args:
        code: for programs.
        detail: for the operator, in English; names what and where, never a patient.
    """

    def __init__(self, code: SourceErrorCode, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail[:300]

    @property
    def en(self) -> str:
        """One sentence in English."""
        return _SENTENCES[self.code][0]

    @property
    def zh(self) -> str:
        """The same in Chinese."""
        return _SENTENCES[self.code][1]


class NoticeCode(StrEnum):
    """What a person should know about a record that could be read."""

    LIMB_AMPLITUDE = "notice_limb_amplitude"
    FLAT = "notice_flat"
    LIMB_MISMATCH = "notice_limb_mismatch"
    SCALE_ROUNDED = "notice_scale_rounded"
    SCALE_FINER = "notice_scale_finer"
    OFFSET_REMOVED = "notice_offset_removed"
    LEFT_OUT = "notice_left_out"
    LEAD_RENAMED = "notice_lead_renamed"
    NO_TIME = "notice_no_time"
    NO_ZONE = "notice_no_zone"
    RATE_ROUNDED = "notice_rate_rounded"
    SPLIT = "notice_split"
    TRUNCATED = "notice_truncated"
    CHECKSUM = "notice_checksum"


_NOTICES: dict[NoticeCode, tuple[str, str]] = {
    NoticeCode.LIMB_AMPLITUDE: (
        "A limb lead exceeds 5 mV: the scale that the file states is probably wrong.",
        "肢体导联幅度超过 5 mV：文件声明的定标很可能有误。",
    ),
    NoticeCode.FLAT: (
        "A lead is flat: taken as no contact, not as signal.",
        "导联呈直线：按电极脱落处理，不作为信号。",
    ),
    NoticeCode.LIMB_MISMATCH: (
        "Limb leads contradict each other (III is not II - I).",
        "肢体导联互相矛盾（III ≠ II − I）。",
    ),
    NoticeCode.SCALE_ROUNDED: ("The scale was rounded to whole nanovolts.", "定标已取整至纳伏。"),
    NoticeCode.SCALE_FINER: (
        "Leads of different scales were brought to one finer scale; every original value can be restored.",
        "不同定标的导联已统一到更细的定标；原始值均可还原。",
    ),
    NoticeCode.OFFSET_REMOVED: (
        "A constant offset smaller than one step is not shown.",
        "小于一个量化步长的固定偏移未显示。",
    ),
    NoticeCode.LEFT_OUT: ("A channel that is not an ECG lead was left out.", "非心电通道未导入。"),
    NoticeCode.LEAD_RENAMED: ("A lead name was brought to its standard form.", "导联名称已规范化。"),
    NoticeCode.NO_TIME: ("The file does not say when it was taken.", "文件未注明采集时间。"),
    NoticeCode.NO_ZONE: ("The file's time has no time zone; taken as UTC.", "文件时间未注明时区，按 UTC 处理。"),
    NoticeCode.RATE_ROUNDED: ("The sample rate was rounded to 0.001 Hz.", "采样率已取整至 0.001 Hz。"),
    NoticeCode.SPLIT: ("The record is carried as several streams.", "该记录分为多个数据流。"),
    NoticeCode.CHECKSUM: (
        "The samples do not match the checksum in the header: the record was changed or damaged.",
        "样本与文件头校验和不符：记录可能被改动或已损坏。",
    ),
    NoticeCode.TRUNCATED: ("The record is shorter than its header says.", "记录比文件头声明的短。"),
}  # fmt: skip


class Notice:
    """A remark about a record, in words; equal when code and detail are."""

    __slots__ = ("code", "detail")

    def __init__(self, code: NoticeCode, detail: str = "") -> None:
        self.code = code
        self.detail = detail[:300]

    @property
    def en(self) -> str:
        """One sentence in English."""
        return _NOTICES[self.code][0]

    @property
    def zh(self) -> str:
        """The same in Chinese."""
        return _NOTICES[self.code][1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Notice) and (self.code, self.detail) == (other.code, other.detail)

    def __hash__(self) -> int:
        return hash((self.code, self.detail))

    def __repr__(self) -> str:
        return f"Notice({self.code}, {self.detail!r})"
