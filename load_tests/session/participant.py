"""One simulated participant from its first request to its leaving: joins, follows, works, comes back.

The states are a browser's. When the socket is lost it fetches a token and joins again, after a pause that grows, or
when a busy server said that it is its turn; its media goes on by itself if that took less than 15 s and the worker is
still the same, else it is built anew. What it waits for and never gets is counted as missing when it leaves.

A long file on purpose: each of these states can be cut off by a lost socket or by the end of the run, and whoever reads
one has to see what the others leave behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from load_tests.plan.timetable import Planned
from load_tests.report.ledger import Ledger
from load_tests.rig.peer import PeerFailed
from load_tests.rig.poller import Poller
from load_tests.session import waves
from load_tests.session.consult import ConsultView
from load_tests.session.engine import Engine
from load_tests.session.media import Media
from load_tests.session.office import HttpRefused, Office
from load_tests.session.path import Path
from load_tests.session.signalling import Lost, Refused, Signalling
from load_tests.session.transport import TargetNotAllowed
from load_tests.session.wall import wall_ns, wall_s
from load_tests.session.world import World

EXPECTED: Final = (Refused, Lost, HttpRefused, PeerFailed, TimeoutError, OSError, aiohttp.ClientError)
"""What happens to any client of a server under load or that restarts; anything else is our bug."""
UNDONE: Final = (Refused, TimeoutError)
"""A command was declined or not answered in time; the socket stands, and whoever works there goes on."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 4.0
WAITS: Final = frozenset({"too_busy", "too_many_attempts"})
"""Refusals of a token that say when to ask again. [SE16]"""
LONGEST_TURN_S: Final = 120
TOKEN_KEPT_S: Final = 45.0
"""So long a token of which no socket came up is used again."""
MEDIA_KEPT_S: Final = 15.0
REBUILD_PAUSE_S: Final = 0.2
REBUILD_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.7, 1.0)
"""After each attempt in a row that failed, as the web client waits."""
PATH_LOOK_S: Final = 1.0
OUTAGE_S: Final = 0.5
"""A picture or waveform that was there and does not come for so long is gone."""
WATCH_S: Final = 0.1
TRACE_S: Final = 1.0
CONTEXT_S: Final = 1.0
SETTLED_S, AGAIN_S = 0.3, 2.0
"""When a shown page is told, and told again if that was declined."""
LEAD_TRIES: Final = 10
FIRST_PAGE: Final[Mapping[str, Any]] = {"page": "summary", "item": ""}
RECORD_SCREEN: Final = 1
LEAVE_S: Final = 3.0
PAGES: Final = ("summary", "labs", "medications", "vitals", "reports")


CONNECTIONS: Final = 7
"""A browser's six and a socket: people who shared a pool would keep open what one slow moment opened."""
KEPT_ALIVE_S: Final = 60


class Stopped(Exception):
    """This session cannot go on; the text is a stable code."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all sessions of a process share."""

    origins: tuple[str, ...]
    """Of the server's nodes."""
    world: World
    poller: Poller
    ledger: Ledger
    bind: str = "127.0.0.1"
    allowed: frozenset[str] = frozenset()
    hospitals: tuple[int, ...] = ()
    """Ports where the gateways of partner hospitals take HL7 v2."""
    spread: str = "consult"
    """See `load_tests.plan.scenario.Serving`."""
    engine: Engine | None = None
    """What plays media in C; None: Python does."""

    @staticmethod
    def connections() -> aiohttp.ClientSession:
        """One person's, as many as a browser opens to a server; cookies are set by who has them."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEPT_ALIVE_S)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    def origin_of(self, plan: Planned) -> str:
        """The node that a session goes to."""
        return self.origins[(plan.consult if self.spread == "consult" else plan.number) % len(self.origins)]


def turn_of(problem: Exception) -> int:
    """Seconds that a busy server asked to wait for; 0: it did not."""
    if isinstance(problem, HttpRefused) and problem.code in WAITS:
        return min(problem.retry_after_s, LONGEST_TURN_S)
    return 0


@dataclass(slots=True)
class Outage:
    """Something that was there and may be gone."""

    figure: str
    had_s: float = 0.0
    """When it was last there; 0: it never was."""
    gone: bool = False


class Participant:
    """One session of the timetable."""

    def __init__(self, plan: Planned, setting: Setting) -> None:
        self.plan = plan
        self.path = Path(plan.line, plan.seed, setting.ledger)
        self.joined = False
        self.stopped = ""
        """Why it gave up, if it did."""
        self.media: Media | None = None
        self.view = ConsultView()
        self.picture, self.wave = Outage("picture_back_ms"), Outage("wave_back_ms")
        self._setting = setting
        self._ledger = setting.ledger
        self._consult = setting.world.consults[plan.consult]
        self._http = setting.connections()
        self._office = Office(self._http, setting.origin_of(plan), self._consult, setting.ledger)
        self._signalling: Signalling | None = None
        self._began_s = 0.0
        self._lost_s = 0.0
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._rebuild = asyncio.Event()
        self._token: tuple[str, float] | None = None
        """Not used yet, as far as can be known, and when it was asked for."""
        self._failures = 0
        """Attempts to build the media that failed in a row."""
        self._page = asyncio.Event()
        """Another page may be shown."""
        self._context = asyncio.Event()
        """Another patient may be open."""
        self._syncing = False
        self._chance = random.Random(plan.seed)
        self._timed: set[str] = set()
        self._wave_source: waves.Source | None = None
        """A device's stream between two paths."""
        self._viewer: waves.Viewer | None = None
        """What is watched, between two paths."""
        self._waves = 0

    async def run(self) -> None:
        """Everything until cancelled; what is missing then is counted."""
        self._began_s = time.monotonic()
        self._ledger.count("joins_tried")
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                try:
                    await self._session()
                except Stopped as reason:
                    self.stopped = str(reason)
                    self._ledger.error(f"gave up: {reason}")
                    return
                except EXPECTED as problem:
                    turn_s = turn_of(problem)
                    if turn_s:
                        self._ledger.count("turned_away")
                        self.joined = False
                        await asyncio.sleep(turn_s + self._chance.random())
                        pause_s = FIRST_PAUSE_S
                        continue
                    self._note(problem)
                if self.joined:
                    pause_s = FIRST_PAUSE_S
                self.joined = False
                await asyncio.sleep(pause_s / 2 * (1 + self._chance.random()))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            await asyncio.shield(self._end())

    # ------------------------------------------------------------- one socket

    async def _session(self) -> None:
        setting, plan = self._setting, self.plan
        if not self._office.signed_in:
            await self.path.uncut()
            await self._office.sign_in(plan.behaviour, plan.index, setting.world.password)
        token, self._token = self._token, None
        await self.path.uncut()
        if token is None or time.monotonic() - token[1] > TOKEN_KEPT_S:
            asked_s = time.monotonic()
            token = await self._office.token(), asked_s
        signalling = self._signalling = Signalling(self._http, setting.origin_of(plan), self.path, self._ledger)
        try:
            began = time.monotonic()
            await signalling.open(token[0], self._on_event, self._on_signal)
            self._ledger.add("join_socket_ms", (time.monotonic() - began) * 1000)
            began = time.monotonic()
            joined = await signalling.ask({"type": "join"}, self._enter)
            self._ledger.add("join_enter_ms", (time.monotonic() - began) * 1000)
            self._event("joined", (time.monotonic() - self._began_s) * 1000)
            if self._lost_s:
                away_s, self._lost_s = time.monotonic() - self._lost_s, 0.0
                self._ledger.count("rejoins")
                self._ledger.add("signalling_back_ms", away_s * 1000)
                self._event("signalling back", away_s * 1000)
                if away_s > MEDIA_KEPT_S or (self.media is not None and self.media.epoch != self.view.media_epoch):
                    self._rebuild.set()
            self.joined = True
            self._changed.set()
            await self._live(signalling, joined["router_rtp_capabilities"])
        except asyncio.CancelledError:  # its time is over: it leaves as a person does [CO7]
            with contextlib.suppress(*EXPECTED):
                async with asyncio.timeout(LEAVE_S):
                    await signalling.ask({"type": "leave"})
            raise
        finally:
            if self.joined:
                self._lost_s = time.monotonic()
            if not signalling.came_up:
                self._token = token
            await signalling.close()
        if signalling.goodbye in ("removed", "ended", "replaced", "malformed"):
            raise Stopped(f"goodbye {signalling.goodbye}")
        self._ledger.count("sockets_lost")
        self._event("socket lost", 0)
        raise Lost(signalling.goodbye or "socket")

    def _enter(self, joined: Mapping[str, Any]) -> None:
        """The answer to the join, before the events that follow it. [CO2]"""
        self.view.you = joined["you"]
        self.view.take_snapshot(joined["snapshot"])

    async def _live(self, signalling: Signalling, capabilities: Mapping[str, Any]) -> None:
        """Media and work, until the socket is lost."""
        works: list[Callable[[], Awaitable[None]]] = [self._follow_context, self._arrive]
        behaviour = self.plan.behaviour
        if behaviour.media:
            works += [lambda: self._keep_media(signalling, capabilities), self._mind_path]
        if behaviour.page_every_s:
            works.append(self._read_record)
        if behaviour.lock_read_every_s:
            works.append(self._read_lock)
        if behaviour.watches_ecg:
            works.append(self._report_traces)
        if behaviour.who in ("doctor", "guest") or behaviour.screen == RECORD_SCREEN:
            works.append(self._report_view)
        if self.plan.leads:
            works += [self._open_patient, *([self._turn_pages] if behaviour.turn_every_s else [])]
            works += [self._move_pointer] if behaviour.point_hz else []
            works += [self._write_notes] if behaviour.note_every_s else []
        tasks = [asyncio.ensure_future(self._guarded(work)) for work in works]
        try:
            await signalling.lost.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one of the works until the socket is lost; a bug of ours is an error of the run, and ends that work."""
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except EXPECTED as problem:
            self._note(problem)
        except TargetNotAllowed as problem:
            self._ledger.error(f"media address {problem} is not allowed")
        except Exception as problem:  # counted by name: one session's bug must not end the run
            self._ledger.error(f"bug: {type(problem).__name__}: {problem}"[:160])

    # ------------------------------------------------------------- media

    async def _keep_media(self, signalling: Signalling, capabilities: Mapping[str, Any]) -> None:
        """Build the media, follow what comes and goes, build it again when the server lost it."""
        while True:
            media = self.media
            if media is None or self._rebuild.is_set():
                await self._build_media(signalling, capabilities)
                continue
            media.signalling = signalling
            self._changed.clear()
            try:
                if not await media.follow():
                    asyncio.get_running_loop().call_later(REBUILD_PAUSE_S, self._changed.set)
                if self.plan.behaviour.ecg:
                    await self._keep_bound(media)
            except UNDONE as problem:  # a page that shows nothing tries again, also where nobody answered
                self._note(problem)
                if isinstance(problem, TimeoutError) or problem.code in ("not_found", "media_unavailable"):
                    await asyncio.sleep(REBUILD_PAUSE_S)
                if isinstance(problem, TimeoutError):
                    continue
                if problem.code in WAITS:
                    asyncio.get_running_loop().call_later(REBUILD_PAUSE_S, self._changed.set)
            if self._rebuild.is_set() or media.epoch != self.view.media_epoch:
                self._rebuild.set()
                continue
            await self._changed.wait()

    async def _mind_path(self) -> None:
        """The server may have lost the media without a word, as when it was killed."""
        while True:
            await asyncio.sleep(PATH_LOOK_S)
            with contextlib.suppress(*UNDONE):
                if self.media is not None and not self._rebuild.is_set() and await self.media.gone():
                    self._rebuild.set()
                    self._changed.set()

    async def _build_media(self, signalling: Signalling, capabilities: Mapping[str, Any]) -> None:
        self._rebuild.clear()
        if self.media is not None:
            self._ledger.count("media_rebuilt")
            self._event("media rebuilt", 0)
            await self._drop_media()
        setting = self._setting
        media = Media(
            self.plan, signalling, self.view, self.path, setting.poller, self._ledger,
            bind=setting.bind, allowed=setting.allowed, changed=self._something_came,
            gap=lambda frames: self._event("ecg gap", frames), source=self._wave_source,
            engine=setting.engine, viewer=self._viewer,
        )  # fmt: skip
        self.media = media
        try:
            await media.build(capabilities)
        except (*EXPECTED, TargetNotAllowed) as problem:
            self._note(problem)
            if signalling.lost.is_set() or isinstance(problem, TargetNotAllowed):
                raise
            self._rebuild.set()
            await asyncio.sleep(REBUILD_PAUSES_S[min(self._failures, len(REBUILD_PAUSES_S) - 1)])
            self._failures += 1
        else:
            self._failures = 0

    async def _keep_bound(self, media: Media) -> None:
        """A device: bind it to the open patient, and send once it is bound."""
        if not self.view.patient:
            media.end_wave()
        elif not self.view.bound:
            media.end_wave()
            assert self._signalling is not None
            await self._signalling.ask(
                {
                    "type": "bind_device", "device": self.view.you, "patient": self.view.patient,
                    "context_version": self.view.context_version, "confirmed": list(self._consult.identifiers),
                }
            )  # fmt: skip
            self._ledger.acknowledged("device_bound", self.plan.consult, self.view.you)
            self.view.bound = True
        if self.view.bound and (media.source is None or not media.source.attached):
            self._waves += media.source is None
            await media.begin_wave(f"{self.plan.seed}-{self._waves}")

    async def _drop_media(self) -> None:
        if self.media is not None:
            media, self.media = self.media, None
            self._wave_source, self._viewer = media.source, media.viewer
            await media.close()

    def _something_came(self) -> None:
        media = self.media
        if media is not None and media.receiver is not None:
            tracks = media.receiver.tracks.values()
            if any(track.kind == "audio" and track.here for track in tracks):
                self._first("join_first_sound_ms")
            if any(track.kind == "video" and track.here for track in tracks):
                self._first("join_first_picture_ms")
        if media is not None and media.viewer is not None and media.viewer.last_s:
            self._first("join_first_wave_ms")
        self._arrived.set()

    def _due(self) -> list[str]:
        """First of what is there to be had now, for whoever looks and listens as this session does."""
        behaviour, view = self.plan.behaviour, self.view
        kinds = {one["kind"] for one in view.producers.values() if one["participant"] != view.you}
        there = (
            ("join_first_sound_ms", behaviour.hears and "audio" in kinds),
            ("join_first_picture_ms", behaviour.sees and "video" in kinds),
            ("join_first_wave_ms", behaviour.watches_ecg and bool(view.waves)),
        )
        return [figure for figure, due in there if due and behaviour.media]

    def _first(self, figure: str) -> None:
        if figure not in self._timed:
            self._timed.add(figure)
            self._ledger.add(figure, (time.monotonic() - self._began_s) * 1000)

    async def _arrive(self) -> None:
        """The first time: wait for everything that is there, and book how long it took."""
        while "join_ms" not in self._timed:
            built = self.media is not None and (self.media.receiver is not None or self.media.sender is not None)
            idle = not self.plan.behaviour.media
            passive = not (self.plan.behaviour.sees or self.plan.behaviour.hears or self.plan.behaviour.watches_ecg)
            if idle or (passive and not self.plan.behaviour.camera and not self.plan.behaviour.ecg):
                break
            if built and self.media is not None and self.media.complete:
                break
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._arrived.wait()
        if "join_ms" not in self._timed:
            self._first("join_ms")
            self._ledger.count("joins_done")
            self._event("complete", (time.monotonic() - self._began_s) * 1000)

    # ------------------------------------------------------------- following

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if self.view.misses(event):
            self._ledger.count("event_holes")
            self._sync()
            return
        if not self.view.take(event):
            return
        kind = event["type"]
        if kind == "page_turned":
            self._heard_turn(event)
            self._page.set()
        elif kind == "media_reset":
            self._rebuild.set()
        elif kind in ("context_opened", "context_closed"):
            self._office.forget_page()
            self._context.set()
            self._page.set()
        self._changed.set()
        self._arrived.set()

    def _on_signal(self, signal: Mapping[str, Any]) -> None:
        if signal["type"] == "transport_gone":
            self._rebuild.set()
            self._changed.set()
        elif signal["type"] == "beat" and self.joined and signal["revision"] > self.view.revision:
            self._sync()

    def _sync(self) -> None:
        """Ask for what was missed, once at a time. [CO4]"""
        if not self._syncing and self._signalling is not None:
            self._syncing = True
            asyncio.ensure_future(self._guarded(self._catch_up))  # noqa: RUF006 - ends with the socket

    async def _catch_up(self) -> None:
        try:
            if self._signalling is None:
                return
            missed = await self._signalling.ask({"type": "sync", "since": self.view.revision})
            if missed["snapshot"] is not None:
                self.view.take_snapshot(missed["snapshot"])
            for event in missed["events"]:
                self._on_event(event)
        finally:
            self._syncing = False
        self._changed.set()

    def _heard_turn(self, event: Mapping[str, Any]) -> None:
        """The lead turned a page: its name says when."""
        item = event["view"]["item"]
        if event["by"] == self.view.you or not item.startswith("load-"):
            return
        asked_s = int(item[5:]) / 1e6
        now_s = wall_s()
        self._ledger.add("event_ms", (now_s - asked_s) * 1000)
        heard = self._ledger.last_heard.setdefault(f"{self.plan.consult}:{item[5:]}", [asked_s, now_s, 0])
        heard[1], heard[2] = max(heard[1], now_s), heard[2] + 1

    async def _follow_context(self) -> None:
        """Confirm each version that is opened, as a page does when it shows it. [CX3]"""
        seen = 0
        while True:
            self._context.clear()
            version = self.view.context_version if self.view.patient else 0
            if version and version != seen and self.plan.behaviour.who not in ("room", "device"):
                seen = version
                assert self._signalling is not None
                with contextlib.suppress(*UNDONE):
                    await self._signalling.ask({"type": "confirm_context", "version": version})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONTEXT_S):
                    await self._context.wait()

    async def _report_view(self) -> None:
        """Say which page of the record is shown here, as soon as it has settled. [VW1]"""
        told: tuple[int, Mapping[str, Any]] | None = None
        while True:
            self._page.clear()
            shown = (self.view.context_version, self.view.view or FIRST_PAGE)
            if self.view.patient and shown != told and self._signalling is not None:
                await asyncio.sleep(SETTLED_S)
                if shown == (self.view.context_version, self.view.view or FIRST_PAGE):
                    command = {"type": "show_view", "context_version": shown[0], "view": shown[1]}
                    with contextlib.suppress(*UNDONE):  # said again below, as the page then is
                        await self._signalling.ask(command)
                        told = shown
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._page.wait()

    async def _report_traces(self) -> None:
        """Tell the consult how each trace is here, when that has lasted a second. [EC6]"""
        told: dict[int, str] = {}
        before: dict[int, str] = {}
        while True:
            await asyncio.sleep(TRACE_S)
            viewer = self.media.viewer if self.media is not None else None
            now = viewer.states() if viewer is not None and self.view.patient else {}
            for stream_id, state in now.items():
                if before.get(stream_id) == state != told.get(stream_id) and self._signalling is not None:
                    told[stream_id] = state
                    report = {"type": "report_ecg_state", "stream_id": stream_id, "state": state, "age_ms": None}
                    with contextlib.suppress(*UNDONE):  # the next change says it again
                        await self._signalling.ask({**report, "context_version": self.view.context_version})
            before = now

    # ------------------------------------------------------------- working

    async def _open_patient(self) -> None:
        opened = bool(self.view.patient)
        for _ in range(LEAD_TRIES):
            opened = opened or await self._try({"type": "open_context", "patient": self._consult.patient})
            if opened and await self._try({"type": "take_lead"}):
                return
            await asyncio.sleep(AGAIN_S)
            opened = opened or bool(self.view.patient)

    async def _turn_pages(self) -> None:
        every_s = self.plan.behaviour.turn_every_s
        await asyncio.sleep(every_s * self._chance.random())
        number = 0
        while True:
            if self.view.lead == self.view.you and self.view.patient and self._signalling is not None:
                number += 1
                view = {"page": PAGES[number % len(PAGES)], "item": f"load-{wall_ns() // 1000}"}
                turn = {"type": "turn_page", "context_version": self.view.context_version, "view": view}
                if await self._try(turn):
                    self._ledger.acknowledged("page_turned", self.plan.consult, view["item"])
            await asyncio.sleep(every_s)

    async def _move_pointer(self) -> None:
        while True:
            await asyncio.sleep(1 / self.plan.behaviour.point_hz)
            if self.view.lead == self.view.you and self.view.patient and self._signalling is not None:
                self._signalling.tell(
                    {
                        "type": "point", "context_version": self.view.context_version, "view": {"page": "summary"},
                        "x": self._chance.random(), "y": self._chance.random(), "visible": True,
                    }
                )  # fmt: skip

    async def _read_record(self) -> None:
        every_s = self.plan.behaviour.page_every_s
        await asyncio.sleep(every_s * self._chance.random())
        while True:
            if self.view.patient:
                try:
                    await self._office.read_page(self.view.context_version)
                except EXPECTED as problem:
                    if not (isinstance(problem, HttpRefused) and problem.code == "context_changed"):
                        self._ledger.miss("page_ms")
                        self._note(problem)
            await asyncio.sleep(every_s)

    async def _read_lock(self) -> None:
        """Ask the patient's own hospital, as a doctor does who opens that pane."""
        every_s = self.plan.behaviour.lock_read_every_s
        await asyncio.sleep(every_s * self._chance.random())
        while True:
            if self.view.patient:
                try:
                    await self._office.read_lock(self.view.context_version)
                except HttpRefused as problem:
                    self._ledger.miss("lock_read_ms")
                    if problem.code in ("hospital_unreachable", "hospital_timed_out"):  # said so to the doctor, no more
                        self._ledger.count("lock_unreachable")
                    else:
                        self._note(problem)
                except EXPECTED as problem:
                    self._ledger.miss("lock_read_ms")
                    self._note(problem)
            await asyncio.sleep(every_s)

    async def _write_notes(self) -> None:
        """Freeze the page, draw on it, keep it with the record, let it go."""
        every_s = self.plan.behaviour.note_every_s
        await asyncio.sleep(every_s * self._chance.random())
        while True:
            view = self.view.view
            if self.view.lead == self.view.you and self.view.patient and view:
                name = f"load-{wall_ns() // 1000}"
                version = {"context_version": self.view.context_version}
                shape = {"content": "0" * 16, "width": 1280, "height": 720, "language": "en"}
                drawn = {"freeze": name, "strokes": [[100, 100, 500, 300]], "text": name}
                if (
                    await self._try({"type": "freeze_page", "id": name, **version, "view": view, "shape": shape})
                    and await self._try({"type": "put_note", "id": name, **version, **drawn})
                ):  # fmt: skip
                    self._ledger.acknowledged("note_put", self.plan.consult, name)
                await self._try({"type": "release_page"})
            await asyncio.sleep(every_s)

    async def _try(self, command: Mapping[str, Any]) -> bool:
        """Ask; True when it was done."""
        assert self._signalling is not None
        try:
            await self._signalling.ask(command)
        except UNDONE as problem:
            self._note(problem)
            return False
        return True

    # ------------------------------------------------------------- keeping watch

    def watch(self, now_s: float) -> None:
        """Ten times a second: has what was there stopped coming, or come back?"""
        media = self.media
        pictures = media.receiver.pictures if media is not None and media.receiver is not None else []
        self._look(self.picture, max((track.last_frame_s for track in pictures), default=0.0), now_s)
        wave_s = media.viewer.last_s if media is not None and media.viewer is not None else 0.0
        self._look(self.wave, wave_s, now_s)

    def _look(self, outage: Outage, last_s: float, now_s: float) -> None:
        if last_s > outage.had_s:
            if outage.had_s and last_s - outage.had_s > OUTAGE_S:
                self._ledger.add(outage.figure, (last_s - outage.had_s) * 1000)
                self._event(outage.figure.removesuffix("_ms").replace("_", " "), (last_s - outage.had_s) * 1000)
            outage.had_s, outage.gone = last_s, False
        elif outage.had_s and now_s - outage.had_s > OUTAGE_S:
            outage.gone = True

    async def _end(self) -> None:
        """Count what is missing, and release the media."""
        for figure in ("join_ms", *self._due()):
            if figure not in self._timed:
                self._ledger.miss(figure)
        for outage in (self.picture, self.wave):
            if outage.gone and self.view.producers:
                self._ledger.miss(outage.figure)
        try:
            await self._drop_media()
            if self._wave_source is not None:
                self._wave_source.close()
            if self._viewer is not None:
                self._viewer.close()
            self.path.close()
        finally:
            await self._http.close()

    def _note(self, problem: Exception) -> None:
        ours = isinstance(problem, Refused | Lost | HttpRefused | PeerFailed)
        kind = f"{type(problem).__name__} {problem}".strip()[:80] if ours else type(problem).__name__
        if isinstance(problem, OSError) and (name := errno.errorcode.get(problem.errno or 0)) is not None:
            kind += f" {name}"  # whether it was the server or ourselves shows in it
        self._ledger.error(kind)
        self._event(kind, 0)

    def _event(self, what: str, value: float) -> None:
        self._ledger.event(wall_s(), self.plan.number, self.plan.kind, what, value)


__all__ = ["Participant", "Setting"]
