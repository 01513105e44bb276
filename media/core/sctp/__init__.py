"""SCTP for WebRTC data channels, sans-IO: `Association` is the whole of it.

Made for many small messages, most of them unordered and not resent, from one sender to many receivers: chunks
share packets, nothing is copied but into its packet, and what a hostile peer can make us hold or compute is
bounded. ``media.aio.sctp`` runs it over DTLS.
"""

from media.core.sctp.association import Association, Closed, Event, Opened, ResetDone, State, StreamsReset
from media.core.sctp.inbound import MAX_MESSAGE_BYTES, Message
from media.core.sctp.wire import MAX_STREAMS, Refused, SctpRefused

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_STREAMS",
    "Association",
    "Closed",
    "Event",
    "Message",
    "Opened",
    "Refused",
    "ResetDone",
    "SctpRefused",
    "State",
    "StreamsReset",
]
