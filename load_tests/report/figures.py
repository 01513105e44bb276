"""The names of everything that is measured: one table for those who measure, who judge and who read.

A *distribution* is a histogram with a count of what is missing; a *count* only grows. Names end with their unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is measured."""

    group: Literal["join", "media", "ecg", "signalling", "record", "recovery", "generator", "server", "success", "lock"]
    about: str


DISTRIBUTIONS: Final[dict[str, Figure]] = {
    "join_ms": Figure("join", "from the first request to the first of everything that was there to be had"),
    "join_sign_in_ms": Figure("join", "password or link to session cookie"),
    "join_token_ms": Figure("join", "consult token"),
    "join_socket_ms": Figure("join", "WebSocket and Socket.IO connect"),
    "join_enter_ms": Figure("join", "join command to snapshot"),
    "join_transport_ms": Figure("join", "create and connect the Transports, answered"),
    "join_ice_ms": Figure("join", "first check to first answer"),
    "join_dtls_ms": Figure("join", "DTLS handshake"),
    "join_first_sound_ms": Figure("join", "from the first request to the first audio packet"),
    "join_first_picture_ms": Figure("join", "from the first request to the last packet of the first key frame"),
    "join_first_wave_ms": Figure("join", "from the first request to the first waveform frame"),
    "forward_ms": Figure("media", "publisher's send to the kernel's arrival stamp at the viewer, line left out"),
    "jitter_ms": Figure("media", "RFC 3550 interarrival jitter, once a second and track"),
    "freeze_ms": Figure("media", "picture stood longer than WebRTC's freeze limit"),
    "ecg_age_ms": Figure("ecg", "age of a frame's oldest sample when the viewer has it: 100 ms of it is the frame"),
    "ecg_repair_ms": Figure("ecg", "from a gap being seen to its repair"),
    "ack_ms": Figure("signalling", "command to acknowledgement"),
    "event_ms": Figure("signalling", "lead turns a page to each other participant hearing of it"),
    "event_last_ms": Figure("signalling", "the same, to the last of those who heard of it"),
    "page_ms": Figure("record", "one page of the record over HTTP"),
    "picture_back_ms": Figure("recovery", "how long a participant had no picture"),
    "wave_back_ms": Figure("recovery", "how long a participant had no waveform"),
    "signalling_back_ms": Figure("recovery", "socket lost to joined again"),
    "lock_ms": Figure("lock", "gateway has a message to hub has committed it, while the line is up"),
    "lock_held_ms": Figure("lock", "the same of messages that a cut line held up"),
    "lock_drain_ms": Figure("lock", "line is back to hub has everything that had waited, a gateway each"),
    "lock_waiting_messages": Figure("lock", "messages that wait in a gateway, once a second each"),
    "hl7_ack_ms": Figure("lock", "hospital's system sends a message to its gateway's AA"),
    "lock_read_ms": Figure("lock", "a question to the patient's hospital through the lock, answered"),
    "generator_late_ms": Figure(
        "generator", "moments by how late the generators' event loops were in them, fifty a second"
    ),
    "generator_play_late_ms": Figure("generator", "the same of the threads in C that play their media"),
    "server_loop_lag_ms": Figure("server", "moments by how late the server's event loop was in them, fifty a second"),
    "worker_loop_lag_ms": Figure("server", "the same of media workers, twenty a second"),
}

COUNTS: Final[dict[str, Figure]] = {
    "joins_tried": Figure("success", "sessions that set out to join, each once"),
    "joins_done": Figure("success", "of these, with everything they should get"),
    "rejoins": Figure("success", "times that a session came back after its socket was lost"),
    "tracks_expected": Figure("success", "tracks that somebody should have received"),
    "tracks_received": Figure("success", "of these, with at least one packet"),
    "rtp_out": Figure("media", "RTP packets that generators sent"),
    "rtp_in": Figure("media", "RTP packets that generators received, repairs left out"),
    "rtp_in_bytes": Figure("media", "their bytes, header and tag included"),
    "rtp_lost": Figure("media", "never came, by sequence number"),
    "rtp_strange": Figure("media", "packets of no track that their receiver asked for"),
    "rtp_foreign": Figure("media", "packets of another consult: must be none"),
    "rtx_in": Figure("media", "repairs that came"),
    "rtx_out": Figure("media", "repairs that generators sent"),
    "nack_out": Figure("media", "packets asked for again"),
    "pli_out": Figure("media", "key frames asked for"),
    "pli_in": Figure("media", "key frames that the server asked for"),
    "frames_in": Figure("media", "pictures"),
    "freezes": Figure("media", "times that a picture stood"),
    "ecg_out": Figure("ecg", "waveform frames that devices sent"),
    "ecg_in": Figure("ecg", "waveform frames that viewers have"),
    "ecg_repaired": Figure("ecg", "of these, by the frame before in a message or a repair"),
    "ecg_missing": Figure("ecg", "frames that a viewer never had: an open gap"),
    "ecg_gone": Figure("ecg", "of these, told by the server that they will never come"),
    "ecg_twice": Figure("ecg", "frames that came again with other bytes"),
    "vitals_out": Figure("ecg", "vital signs that devices sent"),
    "vitals_in": Figure("ecg", "vital signs that viewers have"),
    "ecg_foreign": Figure("ecg", "messages of a stream that was not announced in this consult: must be none"),
    "ecg_refused": Figure("ecg", "messages that are not sound"),
    "commands": Figure("signalling", "commands that were sent"),
    "refused": Figure("signalling", "of these, refused"),
    "events_in": Figure("signalling", "events that were heard"),
    "event_holes": Figure("signalling", "revisions that jumped: something was missed and asked for again"),
    "signals_in": Figure("signalling", "signals that were heard"),
    "pages_read": Figure("record", "pages of the record that were read"),
    "turned_away": Figure("signalling", "times that a busy server told somebody to come again later"),
    "sockets_lost": Figure("signalling", "sockets that broke"),
    "media_rebuilt": Figure("recovery", "times that a session made its Transports anew"),
    "lock_taken": Figure("lock", "messages that a gateway said AA to: the hospital believes them delivered"),
    "lock_sent_again": Figure("lock", "messages that a hospital's system sent again, unanswered"),
    "lock_unsure": Figure("lock", "messages without an answer when the run ended"),
    "lock_crossed": Figure("lock", "messages that the hub has applied"),
    "lock_repeated": Figure("lock", "messages that came again and changed nothing"),
    "lock_refused": Figure("lock", "messages that the hub refused"),
    "lock_out_of_order": Figure("lock", "numbers that did not follow the one before"),
    "lock_reads": Figure("lock", "questions through the lock that were answered"),
    "lock_unreachable": Figure("lock", "questions answered: the hospital is not reachable"),
    "errors": Figure("success", "what went wrong and is no refusal"),
    "send_failed": Figure("generator", "datagrams that a full socket of a generator dropped"),
    "own_drops": Figure("generator", "datagrams that full receive buffers of generators dropped"),
    "line_lost": Figure("generator", "datagrams that emulated lines lost on purpose"),
}
