"""Refusals: a stable code for the program, a sentence for the person, nothing about the inside.

A refusal never tells whether something the caller may not see exists: what is
absent and what is hidden are both ``not_found``.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes never change meaning; a client may switch on them."""

    MALFORMED = "malformed"
    NOT_JOINED = "not_joined"
    ALREADY_JOINED = "already_joined"
    NOT_ALLOWED = "not_allowed"
    NOT_FOUND = "not_found"
    NOT_LEAD = "not_lead"
    CONSULT_FULL = "consult_full"
    CONSULT_ENDED = "consult_ended"
    CONTEXT_CHANGED = "context_changed"
    PAGE_CHANGED = "page_changed"
    CONTENT_CHANGED = "content_changed"
    CONTENT_TOO_LARGE = "content_too_large"
    SIMULATED_ON_REAL_PATIENT = "simulated_on_real_patient"
    WRONG_PATIENT = "wrong_patient"
    DEVICE_NOT_BOUND = "device_not_bound"
    IDENTIFIERS_WRONG = "identifiers_wrong"
    NOT_AT_BEDSIDE = "not_at_bedside"
    DEVICE_MISMATCH = "device_mismatch"
    ARCHIVE_UNAVAILABLE = "archive_unavailable"
    BAD_MEDIA_PARAMETERS = "bad_media_parameters"
    MEDIA_UNAVAILABLE = "media_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    CONFLICT = "conflict"
    TOO_BUSY = "too_busy"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a code, not a secret
    PROTOCOL_VERSION = "protocol_version"
    INTERNAL = "internal"


SENTENCES: dict[ErrorCode, tuple[str, str]] = {
    ErrorCode.MALFORMED: ("The request was not understood.", "无法识别该请求。"),
    ErrorCode.NOT_JOINED: ("Join the consult first.", "请先加入会诊。"),
    ErrorCode.ALREADY_JOINED: ("You have already joined.", "您已加入会诊。"),
    ErrorCode.NOT_ALLOWED: ("Your role may not do this.", "您的角色无权执行此操作。"),
    ErrorCode.NOT_FOUND: ("There is no such thing in this consult.", "本次会诊中没有该内容。"),
    ErrorCode.NOT_LEAD: ("Only the one who leads may turn the page.", "只有主讲人可以翻页。"),
    ErrorCode.CONSULT_FULL: ("The consult is full.", "会诊人数已满。"),
    ErrorCode.CONSULT_ENDED: ("The consult has ended.", "会诊已结束。"),
    ErrorCode.CONTEXT_CHANGED: ("Another patient has been opened meanwhile.", "当前患者已变更。"),
    ErrorCode.PAGE_CHANGED: ("Another page is shown meanwhile.", "当前页面已变更。"),
    ErrorCode.CONTENT_CHANGED: ("Somebody else changed the shared content meanwhile.", "共享内容已被他人更改。"),
    ErrorCode.CONTENT_TOO_LARGE: ("This is more than can be shared.", "共享内容过大。"),
    ErrorCode.SIMULATED_ON_REAL_PATIENT: (
        "A simulated source can only be used with a test patient.",
        "模拟信号源只能用于测试患者。",
    ),
    ErrorCode.WRONG_PATIENT: (
        "The device is bound to a patient who is not part of this consult.",
        "设备绑定的患者不属于本次会诊。",
    ),
    ErrorCode.DEVICE_NOT_BOUND: (
        "The device is not bound to a patient. Confirm two identifiers at the bedside first.",
        "设备尚未绑定患者，请先在床旁核对两项身份标识。",
    ),
    ErrorCode.IDENTIFIERS_WRONG: (
        "The identifiers do not belong to the open patient. Check the wristband.",
        "身份标识与当前患者不符，请核对腕带。",
    ),
    ErrorCode.NOT_AT_BEDSIDE: (
        "Only staff of the hospital where the device is may bind it.",
        "只有设备所在医院的人员可以绑定该设备。",
    ),
    ErrorCode.DEVICE_MISMATCH: (
        "The device itself is set to another patient. Correct it at the bedside first.",
        "设备自身登记的是另一位患者，请先在床旁更正。",
    ),
    ErrorCode.ARCHIVE_UNAVAILABLE: (
        "Strips cannot be stored on this server now.",
        "本服务器当前无法保存心电片段。",
    ),
    ErrorCode.BAD_MEDIA_PARAMETERS: ("The media parameters cannot be used.", "媒体参数无法使用。"),
    ErrorCode.MEDIA_UNAVAILABLE: (
        "Video and ECG are restarting. Please wait.",
        "音视频与心电服务正在恢复，请稍候。",
    ),
    ErrorCode.STORE_UNAVAILABLE: (
        "The server cannot store anything now. Please try again shortly.",
        "服务器暂时无法保存数据，请稍后重试。",
    ),
    ErrorCode.CONFLICT: ("Someone else was faster. Please try again.", "操作冲突，请重试。"),
    ErrorCode.TOO_BUSY: ("Too many requests at once.", "请求过于频繁。"),
    ErrorCode.TOKEN_INVALID: (
        "Your admission has expired. Please open the consult again.",
        "准入凭证已失效，请重新进入会诊。",
    ),
    ErrorCode.PROTOCOL_VERSION: ("This page is out of date. Please reload it.", "页面版本过旧，请刷新。"),
    ErrorCode.INTERNAL: ("Something went wrong on the server.", "服务器内部错误。"),
}
"""English and Chinese sentence per code; a test checks that none is missing."""


class Refusal(Exception):
    """A command was declined.

    Args:
        code: what the client may switch on.
        detail: for the server's log only, never sent.
        sentences: English and Chinese, where the code's own do not say what the person can do.
    """

    def __init__(self, code: ErrorCode, detail: str = "", sentences: tuple[str, str] | None = None) -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code = code
        self.detail = detail
        self.en, self.zh = sentences or SENTENCES[code]


class MediaFull(Refusal):
    """The hub's workers carry as much as they can; those who are there keep their quality."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(
            ErrorCode.TOO_BUSY,
            detail,
            (
                "The hub's media capacity is used up. Running consults are not affected. Please try again later.",
                "中心的音视频容量已用完，进行中的会诊不受影响，请稍后再试。",
            ),
        )


class ServerStopping(Refusal):
    """The server is about to restart: running consults go on, new ones wait for it."""

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.TOO_BUSY,
            "draining",
            (
                "The server is about to restart. Please try again in a few minutes.",
                "服务器即将重启，请几分钟后再试。",
            ),
        )
