"""What a message of a data channel is on an SCTP stream (RFC 8831 section 8).

SCTP has no empty messages, so an empty one is a zero byte under an identifier of its own. Channels are
negotiated by signalling, so the in-band protocol that would open them (RFC 8832) is only recognised to be refused.
"""

from typing import Final

from media.core.sctp.inbound import Message

DCEP: Final = 50
_STRING, _BINARY, _EMPTY_STRING, _EMPTY_BINARY = 51, 53, 56, 57


class NotAMessage(ValueError):
    """An unknown payload protocol identifier, or text that is not UTF-8."""


def encode(message: bytes | str) -> tuple[int, bytes]:
    """Payload protocol identifier and payload."""
    if isinstance(message, str):
        return (_STRING, message.encode()) if message else (_EMPTY_STRING, b"\0")
    return (_BINARY, message) if message else (_EMPTY_BINARY, b"\0")


def decode(message: Message) -> bytes | str:
    """The message as it was sent.

    Raises:
        NotAMessage: also for `DCEP`, which the caller looks for first.
    """
    match message.protocol:
        case 53:
            return message.payload
        case 51:
            try:
                return message.payload.decode()
            except UnicodeDecodeError:
                raise NotAMessage("text is not UTF-8") from None
        case 56:
            return ""
        case 57:
            return b""
        case other:
            raise NotAMessage(f"payload protocol {other}")
