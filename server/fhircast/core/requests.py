"""What programs send: subscription forms (H1), events (H10) and answers on the socket (H15)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from server.fhircast.core import names
from server.fhircast.core.refusals import HubRefusal, malformed
from signaling.core.model import JsonObject

MAX_ENTRIES = 32
"""Of an event's context."""
MAX_EVENTS = 64
MAX_TEXT = 128
MAX_NAME_CHARS = 80
"""Of a subscriber, as people will read it."""

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """A program wants to hear of events. (H1)"""

    topic: str
    events: tuple[str, ...]
    """Canonical, each once; not more than what was asked for that this hub knows."""
    lease_s: int | None
    endpoint: str | None
    """URL of an existing subscription whose list is to be replaced. (H7)"""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """And does not any more. (H8)"""

    topic: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRequest:
    """A program asks for a change of context, or says something to the others. (H10, H13)"""

    id: str
    topic: str
    name: str
    """Canonical."""
    latest_ms: int
    """The last moment that its timestamp can mean: a time without fractions is the whole second."""
    context: tuple[JsonObject, ...]
    version: str | None

    def resource(self, key: str) -> JsonObject | None:
        """The resource under a key, if there is one."""
        found = next((entry.get("resource") for entry in self.context if entry["key"] == key), None)
        return found if isinstance(found, dict) else None

    def references(self, key: str) -> tuple[str, ...]:
        """What is referred to under a key."""
        found = [entry.get("reference") for entry in self.context if entry["key"] == key]
        return tuple(str(one["reference"]) for one in found if isinstance(one, dict) and one.get("reference"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subscriber says to an event. (H15, H16)"""

    id: str
    status: int


def read_form(body: str) -> Subscribe | Unsubscribe:
    """A url-encoded subscription request.

    Raises:
        HubRefusal: 400, with what is wrong.
    """
    try:
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True, max_num_fields=32, encoding="utf-8")
    except ValueError:
        raise malformed("The body is not application/x-www-form-urlencoded.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise malformed("A parameter appears twice.")
    return read_fields(fields)


def read_fields(fields: Mapping[str, Any]) -> Subscribe | Unsubscribe:
    """The same from a mapping: some programs send it as JSON."""
    if fields.get("hub.channel.type") != "websocket":
        raise malformed("hub.channel.type must be websocket.")
    topic = _text(fields, "hub.topic")
    endpoint = _text(fields, "hub.channel.endpoint", most=1024).strip() if fields.get("hub.channel.endpoint") else None
    match fields.get("hub.mode"):
        case "subscribe":
            return Subscribe(
                topic=topic,
                events=_events(_text(fields, "hub.events", most=4096)),
                lease_s=_lease(fields.get("hub.lease_seconds")),
                endpoint=endpoint,
                name=_name(fields.get("subscriber.name")),
            )
        case "unsubscribe":
            if endpoint is None:
                raise malformed("hub.channel.endpoint is required to unsubscribe.")
            return Unsubscribe(topic=topic, endpoint=endpoint)
        case _:
            raise malformed("hub.mode must be subscribe or unsubscribe.")


def read_event(body: Mapping[str, Any]) -> EventRequest:
    """An event as JSON.

    Raises:
        HubRefusal: 400, with what is wrong.
    """
    event = body.get("event")
    if not isinstance(event, dict):
        raise malformed("event is required.")
    asked = _text(event, "hub.event")
    name = names.canonical(asked)
    if name is None:
        raise malformed("hub.event is not an event of this hub; own events are reverse domains without a dash.")
    context = event.get("context")
    if not isinstance(context, list) or len(context) > MAX_ENTRIES:
        raise malformed(f"context must be an array of at most {MAX_ENTRIES}.")
    for entry in context:
        if not (isinstance(entry, dict) and isinstance(entry.get("key"), str)):
            raise malformed("Each entry of context needs a key.")
    version = event.get("context.versionId", event.get("versionId"))
    return EventRequest(
        id=_text(body, "id"),
        topic=_text(event, "hub.topic"),
        name=name,
        latest_ms=read_timestamp(_text(body, "timestamp")),
        context=tuple(context),
        version=version if isinstance(version, str) else None,
    )


def read_answer(text: str) -> Answer | None:
    """A subscriber's answer; None for what is none.

    The status may be a number or its digits (H15). Without one, as some libraries answer, it is 202: received.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get("id"), str):
        return None
    status = body.get("status", 202)
    if isinstance(status, str) and re.fullmatch(r"[1-5]\d\d", status, re.ASCII):
        status = int(status)
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        return None
    return Answer(body["id"], status)


def read_timestamp(text: str) -> int:
    """The last millisecond that an ISO 8601 time can mean; without a zone it is UTC.

    Raises:
        HubRefusal: 400.
    """
    found = _TIMESTAMP.fullmatch(text.strip())
    if found is None:
        raise malformed("timestamp must be an ISO 8601 time.")
    day, hours, minutes, seconds, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{hours}:{minutes}:{seconds or '00'}").replace(tzinfo=UTC)
        if zone and zone.upper() != "Z":
            sign = 1 if zone[0] == "+" else -1
            at -= sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        start_ms = round(at.timestamp()) * 1000
    except (ValueError, OverflowError):
        raise malformed("timestamp must be an ISO 8601 time.") from None
    if seconds is None:
        return start_ms + 59_999
    if fraction is None:
        return start_ms + 999
    digits = fraction[:3]
    return start_ms + int(digits.ljust(3, "9"))


def _text(fields: Mapping[str, Any], name: str, most: int = MAX_TEXT) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise malformed(f"{name} is required, a string of at most {most} characters.")
    return value


def _events(text: str) -> tuple[str, ...]:
    """A set, in the order of the request; what this hub does not know is not granted (H4)."""
    asked = [part for part in text.split(",") if part.strip()]
    if len(asked) > MAX_EVENTS:
        raise malformed(f"hub.events names more than {MAX_EVENTS} events.")
    known = tuple(dict.fromkeys(name for part in asked if (name := names.canonical(part)) is not None))
    if not known:
        raise malformed("hub.events names no event of this hub.")
    return known


def _lease(value: Any) -> int | None:
    if value is None:
        return None
    text = str(value)
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) == 0:
        raise malformed("hub.lease_seconds must be a positive whole number.")
    return int(text)


def _name(value: Any) -> str:
    """One line that can stand in a banner."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed("subscriber.name must be a string.")
    return " ".join("".join(char if char.isprintable() else " " for char in value).split())[:MAX_NAME_CHARS]


__all__ = [
    "Answer",
    "EventRequest",
    "HubRefusal",
    "Subscribe",
    "Unsubscribe",
    "read_answer",
    "read_event",
    "read_fields",
    "read_form",
    "read_timestamp",
]
