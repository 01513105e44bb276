"""Refusals of the HTTP API: a stable code, a status, and a sentence in both languages.

What does not exist and what the caller may not see are the same ``not_found``;
a guest link that is unknown, used or expired is always ``invite_invalid``.
"""

from enum import StrEnum

from signaling.core.errors import SENTENCES as SIGNALING_SENTENCES
from signaling.core.errors import ErrorCode


class ApiCode(StrEnum):
    """Codes never change meaning."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_SIGNED_IN = "not_signed_in"
    BAD_CREDENTIALS = "bad_credentials"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    WRONG_ORIGIN = "wrong_origin"
    WRONG_HOST = "wrong_host"
    NOT_ALLOWED = "not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONTEXT_CHANGED = "context_changed"
    CONSULT_ENDED = "consult_ended"
    CONSULT_FULL = "consult_full"
    NOT_SDP = "not_sdp"
    SDP_UNSUPPORTED = "sdp_unsupported"
    PRECONDITION_REQUIRED = "precondition_required"
    PRECONDITION_FAILED = "precondition_failed"
    MEDIA_UNAVAILABLE = "media_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    TOO_BUSY = "too_busy"
    INVITE_INVALID = "invite_invalid"
    CODE_INVALID = "code_invalid"
    FILE_UNREADABLE = "file_unreadable"
    PICTURE_UNREADABLE = "picture_unreadable"
    PATIENT_DIFFERS = "patient_differs"
    WAVEFORM_UNSUPPORTED = "waveform_unsupported"
    ARCHIVE_UNAVAILABLE = "archive_unavailable"
    ENROLMENT_INVALID = "enrolment_invalid"
    HOSPITAL_REFUSED = "hospital_refused"
    HOSPITAL_UNREACHABLE = "hospital_unreachable"
    HOSPITAL_TIMED_OUT = "hospital_timed_out"
    ANSWER_TOO_LARGE = "answer_too_large"
    CASEPACK_UNFINISHED = "casepack_unfinished"
    CASEPACK_CHANGED = "casepack_changed"
    CASEPACK_UNCHANGED = "casepack_unchanged"
    CASEPACK_DAMAGED = "casepack_damaged"
    ALREADY_ASKED = "already_asked"
    ASK_CLOSED = "ask_closed"
    TOO_MANY_ASKS = "too_many_asks"
    STOPPING = "stopping"
    INTERNAL = "internal"


_ANSWERS: dict[ApiCode, tuple[int, str, str]] = {
    ApiCode.MALFORMED: (400, *SIGNALING_SENTENCES[ErrorCode.MALFORMED]),
    ApiCode.TOO_LARGE: (413, "The request is too large.", "请求内容过大。"),
    ApiCode.NOT_JSON: (415, "The request must be JSON.", "请求必须为 JSON 格式。"),
    ApiCode.NOT_SIGNED_IN: (401, "Please sign in.", "请先登录。"),
    ApiCode.BAD_CREDENTIALS: (401, "The login or the password is not right.", "账号或密码不正确。"),
    ApiCode.TOO_MANY_ATTEMPTS: (429, "Too many attempts. Please wait.", "尝试次数过多，请稍候再试。"),
    ApiCode.WRONG_ORIGIN: (403, "The request came from another site.", "请求来源不受信任。"),
    ApiCode.WRONG_HOST: (421, "This server is not known by that name.", "无法以该地址访问本服务。"),
    ApiCode.NOT_ALLOWED: (403, *SIGNALING_SENTENCES[ErrorCode.NOT_ALLOWED]),
    ApiCode.NOT_FOUND: (404, "There is no such thing here.", "没有找到该内容。"),
    ApiCode.METHOD_NOT_ALLOWED: (405, "That cannot be done here.", "不支持该操作。"),
    ApiCode.CONTEXT_CHANGED: (409, *SIGNALING_SENTENCES[ErrorCode.CONTEXT_CHANGED]),
    ApiCode.CONSULT_ENDED: (409, *SIGNALING_SENTENCES[ErrorCode.CONSULT_ENDED]),
    ApiCode.CONSULT_FULL: (409, *SIGNALING_SENTENCES[ErrorCode.CONSULT_FULL]),
    ApiCode.NOT_SDP: (415, "The request must be SDP.", "请求必须为 SDP 格式。"),
    ApiCode.SDP_UNSUPPORTED: (406, "This kind of offer is not supported.", "不支持该媒体协商内容。"),
    ApiCode.PRECONDITION_REQUIRED: (428, "The request lacks If-Match.", "请求缺少 If-Match。"),
    ApiCode.PRECONDITION_FAILED: (412, "The session has moved on.", "会话状态已变更。"),
    ApiCode.MEDIA_UNAVAILABLE: (503, *SIGNALING_SENTENCES[ErrorCode.MEDIA_UNAVAILABLE]),
    ApiCode.STORE_UNAVAILABLE: (503, *SIGNALING_SENTENCES[ErrorCode.STORE_UNAVAILABLE]),
    ApiCode.TOO_BUSY: (503, *SIGNALING_SENTENCES[ErrorCode.TOO_BUSY]),
    ApiCode.INVITE_INVALID: (410, "This link can no longer be used.", "该链接已失效。"),
    ApiCode.CODE_INVALID: (404, "No screen shows this code now.", "没有屏幕正在显示该配对码。"),
    ApiCode.FILE_UNREADABLE: (422, "This is not an ECG file that can be read.", "无法读取该心电文件。"),
    ApiCode.PICTURE_UNREADABLE: (422, "This image cannot be drawn here.", "此处无法显示该影像。"),
    ApiCode.PATIENT_DIFFERS: (409, "The file names another patient.", "文件中的患者与当前患者不一致。"),
    ApiCode.WAVEFORM_UNSUPPORTED: (422, "This format cannot hold this recording.", "该格式无法保存此记录。"),
    ApiCode.ARCHIVE_UNAVAILABLE: (
        503,
        "The ECG archive cannot be reached now. The live view is not affected.",
        "心电存档暂不可用，实时显示不受影响。",
    ),
    ApiCode.ENROLMENT_INVALID: (410, "This enrolment code can no longer be used.", "该注册码已失效。"),
    ApiCode.HOSPITAL_REFUSED: (403, "The hospital's policy does not allow this.", "该医院的策略不允许此操作。"),
    ApiCode.HOSPITAL_UNREACHABLE: (
        503,
        "The hospital's gateway or record system cannot be reached now.",
        "暂时无法连接该医院的网关或病历系统。",
    ),
    ApiCode.HOSPITAL_TIMED_OUT: (504, "The hospital did not answer in time.", "该医院未能及时响应。"),
    ApiCode.ANSWER_TOO_LARGE: (
        502,
        "The hospital's answer is too large. Ask for less.",
        "医院返回的内容过大，请缩小范围。",
    ),
    ApiCode.CASEPACK_UNFINISHED: (
        422,
        "Reason, purpose, summary and the wanted speciality are needed before the case pack is sent.",
        "发送会诊资料前须填写会诊理由、目的、病情摘要和拟邀专业。",
    ),
    ApiCode.CASEPACK_CHANGED: (
        409,
        "The record has changed since you looked. Check the case pack again, then send it.",
        "病历已有更新，请重新核对会诊资料后再发送。",
    ),
    ApiCode.CASEPACK_UNCHANGED: (409, "Nothing has changed since the last version was sent.", "内容与已发送版本相同。"),
    ApiCode.CASEPACK_DAMAGED: (
        500,
        "The stored case pack is not the one that was sent. It is not shown. Tell the administrator.",
        "存储的会诊资料与发送时不一致，已停止显示，请联系管理员。",
    ),
    ApiCode.ALREADY_ASKED: (409, "This part has been asked for already.", "该项已在索取中。"),
    ApiCode.ASK_CLOSED: (409, "This request has been answered or declined already.", "该索取已被回复或拒绝。"),
    ApiCode.TOO_MANY_ASKS: (409, "Too many parts have been asked for in this consult.", "本次会诊的索取次数过多。"),
    ApiCode.STOPPING: (503, "The server is restarting. Please wait.", "服务器正在重启，请稍候。"),
    ApiCode.INTERNAL: (500, *SIGNALING_SENTENCES[ErrorCode.INTERNAL]),
}


class ApiError(Exception):
    """A request was declined.

    Args:
        code: what the client may switch on.
        detail: for the server's log only, never sent.
        retry_after_s: sent as ``Retry-After``.
        sentences: English and Chinese, where the code's own do not say what the person can do.
    """

    def __init__(
        self,
        code: ApiCode,
        detail: str = "",
        *,
        retry_after_s: int | None = None,
        sentences: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.en, self.zh = sentences or _ANSWERS[code][1:]

    @property
    def status(self) -> int:
        """HTTP status."""
        return _ANSWERS[self.code][0]

    @property
    def body(self) -> dict[str, dict[str, str]]:
        """What the client gets."""
        return {"error": {"code": self.code.value, "en": self.en, "zh": self.zh}}
