"""The accounts and records that a run's server is filled with, as sessions know them.

``load_tests.run.world_process`` makes them; names follow from numbers, so only secrets have to be told.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from load_tests.plan.scenario import Scenario
from load_tests.plan.timetable import Planned, timetable

SCREENS_EACH: Final = 3
"""Of a room with walls."""


class ConsultNeeds(BaseModel):
    """How many accounts of each kind one consult has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    doctors: int = 1
    partner_doctors: int = 0
    rooms: int = 0
    devices: int = 0
    walls: int = 0
    """Rooms with three screens each that take part: 0, 1 or 2."""


class WorldNeeds(BaseModel):
    """What a server must be filled with for one scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consults: int
    each: ConsultNeeds
    signed_in: bool
    """Everybody has a session already."""
    record_resources: int
    hospitals: int = 1
    """Partner hospitals; consult n is with hospital n modulo this."""


class ConsultSecrets(BaseModel):
    """What the sessions of one consult need to come in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    patient: str
    identifiers: tuple[str, str]
    doctors: tuple[str, ...]
    """Logins."""
    partner_doctors: tuple[str, ...]
    rooms: tuple[str, ...]
    """Device secrets, as the next."""
    devices: tuple[str, ...]
    screens: tuple[str, ...]
    """Cookies of screens 1, 2 and 3, and of 4, 5 and 6."""
    cookies: dict[str, str] = {}
    """Of people's sessions, by login; empty where they sign in with the password."""


class World(BaseModel):
    """Everything; a file with passwords in it, of a server for tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    password: str
    consults: tuple[ConsultSecrets, ...]


def needs_of(scenario: Scenario) -> WorldNeeds:
    """What a scenario's sessions ask of a world; and of doctors one more in each consult, who looks for ghosts."""
    most: dict[str, int] = {}
    rooms = 0
    for one in timetable(scenario):
        rooms = max(rooms, ((one.behaviour.screen or 0) + SCREENS_EACH - 1) // SCREENS_EACH)
        most[_account(one)] = max(most.get(_account(one), 0), one.index + 1)
    each = ConsultNeeds(
        doctors=max(1, most.get("doctors", 0)) + 1, partner_doctors=most.get("partner_doctors", 0),
        rooms=most.get("rooms", 0), devices=most.get("devices", 0), walls=rooms,
    )  # fmt: skip
    return WorldNeeds(
        consults=scenario.consults.count,
        each=each,
        signed_in=not scenario.sign_in,
        record_resources=scenario.record_resources,
        hospitals=max(1, scenario.hospitals),
    )


def partner_id(number: int) -> str:
    """Id of a partner hospital, from 0."""
    return f"load-partner-{number}" if number else "load-partner"


def _account(one: Planned) -> str:
    match one.behaviour.who:
        case "doctor":
            return "partner_doctors" if one.behaviour.partner else "doctors"
        case "room":
            return "rooms"
        case "device":
            return "devices"
        case other:
            return f"{other}s"


def lacking(world: World, needs: WorldNeeds) -> str:
    """What a world has too little of, as a sentence; empty when it is enough."""
    if len(world.consults) < needs.consults:
        return f"it has {len(world.consults)} consults, the scenario needs {needs.consults}"
    for name in ("doctors", "partner_doctors", "rooms", "devices"):
        wanted: int = getattr(needs.each, name)
        least = min(len(getattr(one, name)) for one in world.consults[: needs.consults])
        if least < wanted:
            return f"a consult has {least} {name.replace('_', ' ')}, the scenario needs {wanted}"
    if needs.signed_in and any(set(one.doctors) - set(one.cookies) for one in world.consults[: needs.consults]):
        return "its doctors are not signed in, which the scenario needs"
    screens = min(len(one.screens) for one in world.consults[: needs.consults])
    if screens < SCREENS_EACH * needs.each.walls:
        return f"a consult has {screens} paired screens, the scenario needs {SCREENS_EACH * needs.each.walls}"
    return ""
