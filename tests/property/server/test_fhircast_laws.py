"""Laws of the hub, whatever programs and people do."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from server.fhircast.core.hub import (
    Action,
    Behind,
    Close,
    Ended,
    Follows,
    Hub,
    HubSettings,
    Program,
    Send,
    Subscription,
)
from server.fhircast.core.notices import Notice
from server.fhircast.core.refusals import HubRefusal
from server.fhircast.core.requests import Answer, Subscribe, read_answer, read_event, read_form
from server.smart.core.scopes import Scopes

NAMES = ("Patient-open", "Patient-close", "Encounter-open", "Encounter-close", "DiagnosticReport-update", "SyncError")
SCOPES = ("fhircast/*.*", "fhircast/Patient-open.read fhircast/Patient-close.read", "fhircast/*.write")
PEOPLE = st.integers(0, 3)

steps = st.one_of(
    st.tuples(st.just("subscribe"), PEOPLE, st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(SCOPES)),
    st.tuples(st.just("connect"), PEOPLE),
    st.tuples(st.just("drop"), PEOPLE, st.sampled_from([1000, 1001, 1006, 1011])),
    st.tuples(st.just("tell"), st.sampled_from(NAMES)),
    st.tuples(st.just("answer"), PEOPLE, st.integers(0, 30), st.sampled_from([200, 202, 409, 500])),
    st.tuples(st.just("wait"), st.integers(0, 12_000)),
    st.tuples(st.just("unsubscribe"), PEOPLE),
)


def program(number: int, scopes: str) -> Program:
    return Program(
        client=f"c{number}",
        subject="s",
        participant="p",
        name="n",
        key="k",
        scopes=Scopes.parse(scopes),
        expires_at_ms=90_000,
    )


class Run:
    """A script on a hub, and what its sockets got."""

    def __init__(self) -> None:
        self.hub = Hub(HubSettings(connect_ms=30_000))
        self.now_ms = 0
        self.told: list[Notice] = []
        self.made: dict[int, Subscription] = {}
        self.heard: dict[str, list[str]] = {}
        self.over: set[str] = set()
        self.heard_by: dict[str, dict[str, tuple[int, str]]] = {}
        """By subscription and notice: place in the order told, and name."""
        self.said: dict[str, dict[str, int]] = {}
        """The last status that it gave to each."""

    def judged(self, one: Subscription) -> None:
        """(W19) Who is said to follow has followed the patient of now, or what was opened of that patient since."""
        told = self.heard_by.get(one.id, {})
        about_patient = [id_ for id_, (_, name) in told.items() if name.startswith("Patient-")]
        if not about_patient:
            return
        newest = max(about_patient, key=lambda id_: told[id_][0])
        since = {id_ for id_, (at, name) in told.items() if at > told[newest][0] and name.endswith("-open")}
        answers = self.said.get(one.id, {})
        assert any(answers.get(id_) in (200, 202) for id_ in {newest, *since})

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send | Close):
                # Nothing is sent on a socket after its end.
                assert action.subscription.id not in self.over
            if isinstance(action, Send) and "event" in action.message:
                name = action.message["event"]["hub.event"]
                by = self.heard_by.setdefault(action.subscription.id, {})
                by.setdefault(action.message["id"], (len(by), name))
                self.heard.setdefault(action.subscription.id, []).append(action.message["id"])
            elif isinstance(action, Ended):
                self.over.add(action.subscription.id)
            elif isinstance(action, Behind):
                assert action.notice is None or action.notice.name.endswith(("-open", "-close"))  # (H20)
            elif isinstance(action, Follows) and not action.goodbye:
                assert action.subscription.behind is None
                assert not action.subscription.unfollowed
                if action.subscription.latest:
                    self.judged(action.subscription)

    def play(self, step: tuple[object, ...]) -> None:
        match step:
            case ("subscribe", int(who), set(events), str(scopes)):
                number = f"{who}-{len(self.heard)}-{len(self.over)}-{self.now_ms}"
                asked = Subscribe(topic="t", events=tuple(sorted(events)), lease_s=None, endpoint=None, name="")
                try:
                    made, actions = self.hub.subscribe(
                        asked, program(who, scopes), self.now_ms, endpoint=f"e{number}", id_=f"f{number}"
                    )
                except HubRefusal:
                    return
                self.made[who] = made
                self.carry_out(actions)
            case ("connect", int(who)) if who in self.made and self.alive(who) and not self.made[who].connected:
                self.carry_out(self.hub.opened(self.made[who], [], self.now_ms))
            case ("drop", int(who), int(code)) if who in self.made:
                self.carry_out(self.hub.closed(self.made[who], code, self.now_ms))
            case ("tell", str(name)):
                notice = Notice(id=f"n{len(self.told)}", at_ms=self.now_ms, name=name, context=())
                self.told.append(notice)
                before = {one.id for one in self.hub.of("t") if one.connected and one.hears(notice)}
                actions = self.hub.tell("t", [notice], self.now_ms)
                got = {a.subscription.id for a in actions if isinstance(a, Send) and a.message.get("id") == notice.id}
                assert got == before  # (H14)
                self.carry_out(actions)
            case ("answer", int(who), int(number), int(status)) if who in self.made:
                waiting = self.made[who].waiting.get(f"n{number}")
                if waiting is not None and not (waiting.deciding and status == 202):
                    self.said.setdefault(self.made[who].id, {})[f"n{number}"] = status
                self.carry_out(self.hub.answered(self.made[who], Answer(f"n{number}", status), self.now_ms))
            case ("wait", int(length)):
                self.now_ms += length
                self.carry_out(self.hub.tick(self.now_ms))
            case ("unsubscribe", int(who)) if who in self.made and self.alive(who):
                one = self.made[who]
                self.carry_out(self.hub.unsubscribe("t", one.endpoint, one.program)[1])

    def alive(self, who: int) -> bool:
        return self.hub.find(self.made[who].endpoint) is self.made[who]


@settings(max_examples=150)
@given(st.lists(steps, max_size=50))
def test_whatever_happens(script: list[tuple[object, ...]]) -> None:
    """(H5) (H14) (H18) (H20) (H23) after every step."""
    run = Run()
    for step in script:
        run.play(step)
        by_id = {notice.id: notice for notice in run.told}
        for one in run.hub.of("t"):
            assert one.lease_until_ms <= one.program.expires_at_ms  # (H5)
            assert all(one.program.scopes.allows_event(name, "read") for name in one.events)  # (H23)
            # (H18) Nobody is kept who has not answered in time, and nobody without a socket is waited for.
            assert step[0] != "wait" or all(run.now_ms < waiting.until_ms for waiting in one.waiting.values())
            assert one.connected or not one.waiting
            heard = [by_id[id_] for id_ in run.heard.get(one.id, ()) if id_ in by_id]
            assert all(notice.name in (*one.events, "SyncError") for notice in heard)
    # In the order in which they happened; a refused one may come again.
    for ids in run.heard.values():
        first = list(dict.fromkeys(id_ for id_ in ids if id_.startswith("n")))
        assert first == sorted(first, key=lambda id_: int(id_[1:]))


@given(st.text(max_size=200))
def test_only_refusals_come_of_bytes(text: str) -> None:
    """(H3) Forms, answers."""
    read_answer(text)
    with contextlib.suppress(HubRefusal):
        read_form(text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["event", "id", "timestamp", "context", "key", "hub.event", "hub.topic", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["event", "id", "timestamp", "context"]), _json))
def test_only_refusals_come_of_json(body: dict[str, object]) -> None:
    """(H3) Events."""
    with contextlib.suppress(HubRefusal):
        read_event(body)
