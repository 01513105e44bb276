"""What a session knows of its consult: the few facts of the shared state that its behaviour follows.

Events change it one by one [CO3]; a jump in the revisions is told, so that the session asks for what it missed [CO4].
Plain dictionaries, because checking every event of every session against its class would cost the generator more than
the server pays to make it; what is wrong shows as a hole or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ConsultView:
    """Producers, waveforms, context, lead, binding."""

    def __init__(self) -> None:
        self.you = ""
        self.revision = 0
        self.media_epoch = 0
        self.context_version = 0
        self.patient = ""
        self.lead: str | None = None
        self.view: dict[str, Any] | None = None
        """The page that the lead shows."""
        self.ended = False
        self.participants: set[str] = set()
        self.producers: dict[str, dict[str, Any]] = {}
        self.waves: dict[str, dict[str, Any]] = {}
        """DataProducers with a waveform, by id."""
        self.vitals: dict[str, dict[str, Any]] = {}
        """Those with vital signs."""
        self.bound = False
        """A binding of this participant's own device stands."""

    def take_snapshot(self, snapshot: Mapping[str, Any]) -> None:
        """Everything anew."""
        self.revision = snapshot["revision"]
        self.media_epoch = snapshot["media_epoch"]
        self.context_version = snapshot["context_version"]
        context = snapshot["context"]
        self.patient = context["patient"]["id"] if context else ""
        self.lead = snapshot["lead"]
        self.view = snapshot["view"]
        self.ended = snapshot["status"] == "ended"
        self.participants = set(snapshot["participants"])
        self.producers = dict(snapshot["producers"])
        self.waves = {key: one for key, one in snapshot["data_producers"].items() if one["waveform"]}
        self.vitals = {key: one for key, one in snapshot["data_producers"].items() if one["label"] == "vitals"}
        self.bound = self.you in snapshot["bindings"]

    def misses(self, event: Mapping[str, Any]) -> bool:
        """Something between the present and this event was not heard."""
        return int(event["revision"]) > self.revision + 1

    def take(self, event: Mapping[str, Any]) -> bool:
        """Follow an event; False when it is not new."""
        if event["revision"] <= self.revision:
            return False
        self.revision = event["revision"]
        match event["type"]:
            case "participant_joined":
                self.participants.add(event["participant"]["id"])
            case "participant_left":
                self.participants.discard(event["participant"])
            case "context_opened":
                self.context_version = event["context"]["version"]
                self.patient = event["context"]["patient"]["id"]
                self.view = None
            case "context_closed":
                self.patient, self.view = "", None
            case "page_turned":
                self.view = event["view"]
            case "lead_changed":
                self.lead = event["lead"]
            case "producer_added":
                self.producers[event["producer"]["id"]] = event["producer"]
            case "producer_closed":
                self.producers.pop(event["producer"], None)
            case "data_producer_added" if event["data_producer"]["waveform"]:
                self.waves[event["data_producer"]["id"]] = event["data_producer"]
            case "data_producer_added" if event["data_producer"]["label"] == "vitals":
                self.vitals[event["data_producer"]["id"]] = event["data_producer"]
            case "data_producer_closed":
                self.waves.pop(event["data_producer"], None)
                self.vitals.pop(event["data_producer"], None)
            case "device_bound":
                self.bound = self.bound or event["binding"]["device"] == self.you
            case "device_unbound":
                self.bound = self.bound and event["device"] != self.you
                for closed in event["closed"]:
                    self.waves.pop(closed, None)
                    self.vitals.pop(closed, None)
            case "media_reset":
                self.media_epoch = event["media_epoch"]
                self.producers.clear()
                self.waves.clear()
                self.vitals.clear()
            case "consult_ended":
                self.ended = True
        return True
