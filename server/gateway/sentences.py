"""What is wrong with the line to the hub, said so that whoever reads it at night knows what to do."""

import ssl

import aiohttp

CODES: dict[str, tuple[str, str]] = {
    "connected": ("Connected.", "已连接。"),
    "starting": ("Starting.", "正在启动。"),
    "stopped": ("Stopped.", "已停止。"),
    "down": (
        "The hub does not answer. What comes in is kept and sent later.",
        "中心平台无响应，数据已暂存，稍后自动发送。",
    ),
    "name": ("The hub's name is not known here. Check DNS.", "无法解析中心平台域名，请检查 DNS。"),
    "lost": ("The line broke. It is dialled again.", "连接中断，正在重新连接。"),
    "certificate": (
        "The hub's certificate is not trusted: the hub is not who it says, or its authority changed. Nothing was sent.",
        "中心平台证书不受信任，未发送任何数据。",
    ),
    "certificate_time": (
        "The hub's certificate is not valid at this machine's time. Check this machine's clock first.",
        "按本机时间，中心平台证书不在有效期内，请先检查本机时钟。",
    ),
    "hub_unproved": (
        "Who answers is not the hub at which this gateway enrolled. Nothing was sent. Tell both administrators.",
        "应答方不是注册时的中心平台，未发送任何数据，请通知双方管理员。",
    ),
    "refused": (
        "The hub does not know this gateway, or not by this address. Enrol again with a new code.",
        "中心平台不认识本网关，请使用新的注册码重新注册。",
    ),
    "revoked": (
        "The hub's administrator has revoked this gateway. Data is kept here. Enrol again with a new code.",
        "中心平台管理员已撤销本网关，数据保留在本地，请使用新的注册码重新注册。",
    ),
    "already_connected": (
        "Another program with this gateway's identity is connected: a copy of this machine? Stop one of them.",
        "另一个使用相同身份的网关已连接（是否复制了本机？），请停止其中一个。",
    ),
    "replaced": ("Another connection of this gateway has taken over.", "本网关的另一个连接已接管。"),
    "version": (
        "The hub speaks another version of the lock. Update this gateway.",
        "中心平台协议版本不同，请更新本网关。",
    ),
    "protocol": ("Hub and gateway do not understand each other. Update both.", "双方协议不一致，请更新双方程序。"),
    "journal_behind": (
        "This journal is an old copy: the hub has later numbers. What waits is numbered anew; repeats are recognised.",
        "本地日志为旧副本，已重新编号，重复数据会被识别。",
    ),
    "stopping": ("The hub is restarting.", "中心平台正在重启。"),
    "unavailable": ("The hub cannot write now.", "中心平台暂时无法写入。"),
    "busy": ("The hub has too many callers.", "中心平台繁忙。"),
    "clock": (
        "This machine's clock differs from the hub's by {seconds} s. Times in the two logs do not fit.",
        "本机时钟与中心平台相差 {seconds} 秒。",
    ),
    "journal": ("The journal cannot be used now. Sources are told to wait.", "本地日志暂不可用，数据源将等待。"),
}
SLOW = frozenset({"refused", "revoked", "already_connected", "version", "hub_unproved", "certificate", "protocol"})
"""What does not mend itself in seconds: tried again rarely."""


def sentence(code: str, **values: object) -> str:
    """English and Chinese, one line."""
    en, zh = CODES.get(code, CODES["lost"])
    return f"{en.format(**values)} {zh.format(**values)}"


def code_of(problem: BaseException) -> str:
    """Which of the codes a failed dial is."""
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        error = problem.certificate_error
        # X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
        is_time = isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in (9, 10)
        return "certificate_time" if is_time else "certificate"
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return "name"
    if isinstance(problem, aiohttp.ClientSSLError):
        return "certificate"
    if isinstance(problem, aiohttp.WSServerHandshakeError) and problem.status in (429, 503):
        return "busy"
    return "down"
