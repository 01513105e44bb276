"""Subscriptions of one process: no clock, no socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.fhircast.core.hub import (
    MAX_WAITING,
    Action,
    Behind,
    Changed,
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
from server.fhircast.core.requests import Answer, Subscribe
from server.smart.core.scopes import Scopes

ALL = "fhircast/*.*"
HOUR_MS = 3_600_000


def program(client: str = "pacs", scopes: str = ALL, expires_at_ms: int = HOUR_MS, participant: str = "p1") -> Program:
    return Program(
        client=client,
        subject="d1",
        participant=participant,
        name=client.upper(),
        key=f"k_{client}",
        scopes=Scopes.parse(scopes),
        expires_at_ms=expires_at_ms,
    )


def ask(
    events: str = "Patient-open,Patient-close", lease_s: int | None = None, endpoint: str | None = None
) -> Subscribe:
    return Subscribe(topic="t1", events=tuple(events.split(",")), lease_s=lease_s, endpoint=endpoint, name="")


def notice(number: int = 1, name: str = "Patient-open", **more: Any) -> Notice:
    patient = {"key": "patient", "resource": {"resourceType": "Patient", "id": f"pt{number}"}}
    return Notice(id=f"e{number}", at_ms=1_000 * number, name=name, context=(patient,), **more)


def join(hub: Hub, name: str = "pacs", at_ms: int = 0, present: Any = (), **more: Any) -> Subscription:
    made, _ = hub.subscribe(ask(**more), program(name), at_ms, endpoint=f"secret-{name}", id_=f"f_{name}")
    hub.opened(made, present, at_ms)
    return made


def messages(actions: list[Action], to: Subscription | None = None) -> list[Any]:
    return [one.message for one in actions if isinstance(one, Send) and (to is None or one.subscription is to)]


def heard(actions: list[Action], by: Subscription) -> list[str]:
    return [one["id"] for one in messages(actions, by) if "event" in one]


def kinds(actions: list[Action]) -> list[str]:
    """What is done; that something is to be written down has its own test."""
    return [type(one).__name__ for one in actions if not isinstance(one, Changed)]


@pytest.fixture
def hub() -> Hub:
    return Hub()


def test_confirmation_then_what_is_open_as_it_was_then(hub: Hub) -> None:
    """(H4) (H6) Only what was subscribed to, and with the time and id of then."""
    made, actions = hub.subscribe(ask("Patient-open"), program(), 0, endpoint="s", id_="f")
    assert actions == []
    confirmation, event = messages(hub.opened(made, [notice(1), notice(2, "Encounter-open")], 50_000))
    assert confirmation == {
        "hub.mode": "subscribe",
        "hub.topic": "t1",
        "hub.events": "Patient-open,SyncError",
        "hub.lease_seconds": HOUR_MS // 1000 - 50,
    }
    assert (event["id"], event["timestamp"]) == ("e1", "1970-01-01T00:00:01.000Z")


@pytest.mark.parametrize(
    ("asked_s", "token_ms", "lease_ms"), [(600, HOUR_MS, 600_000), (None, 9_000, 9_000), (10**6, 20_000, 20_000)]
)
def test_the_lease_is_never_longer_than_the_token(hub: Hub, asked_s: int | None, token_ms: int, lease_ms: int) -> None:
    """(H5)"""
    made, _ = hub.subscribe(ask(lease_s=asked_s), program(expires_at_ms=token_ms), 0, endpoint="s", id_="f")
    assert made.lease_until_ms == lease_ms


def test_at_the_end_of_the_lease_it_is_denied_and_closed(hub: Hub) -> None:
    """(H5) (H9)"""
    made = join(hub, lease_s=5)
    assert hub.tick(4_999) == []
    actions = hub.tick(5_000)
    assert kinds(actions) == ["Send", "Close", "Ended"]
    assert messages(actions)[0] == {
        "hub.mode": "denied",
        "hub.topic": "t1",
        "hub.events": "Patient-open,Patient-close,SyncError",
        "hub.reason": "lease expired",
    }
    assert hub.find(made.endpoint) is None
    assert hub.tell("t1", [notice()], 5_001) == []


def test_an_endpoint_nobody_comes_to_is_forgotten(hub: Hub) -> None:
    """(H2) Limited life."""
    hub.subscribe(ask(), program(), 0, endpoint="s", id_="f")
    assert kinds(hub.tick(59_999)) == []
    assert kinds(hub.tick(60_000)) == ["Ended"]
    assert len(hub) == 0


def test_subscribing_again_replaces_the_list(hub: Hub) -> None:
    """(H7) With the same topic and endpoint, and by its owner only."""
    made = join(hub)
    again, _ = hub.subscribe(ask("Encounter-open", endpoint=made.endpoint), program(), 10, endpoint="new", id_="f2")
    assert again is made
    assert len(hub) == 1
    assert heard(hub.tell("t1", [notice(1), notice(2, "Encounter-open")], 20), made) == ["e2"]
    for other in (program("thief"), replace(program(), subject="d2")):
        with pytest.raises(HubRefusal) as refused:
            hub.subscribe(ask(endpoint=made.endpoint), other, 10, endpoint="new", id_="f2")
        assert refused.value.status == 404


def test_unsubscribing_denies_and_the_socket_is_not_reusable(hub: Hub) -> None:
    """(H8)"""
    made = join(hub)
    _, actions = hub.unsubscribe("t1", made.endpoint, program())
    assert kinds(actions) == ["Follows", "Send", "Close", "Ended"]
    assert messages(actions)[0]["hub.mode"] == "denied"
    assert hub.find(made.endpoint) is None
    with pytest.raises(HubRefusal):
        hub.unsubscribe("t1", made.endpoint, program())
    with pytest.raises(HubRefusal):
        hub.unsubscribe("t1", join(hub, "other").endpoint, program())


def test_an_event_goes_to_all_with_one_id(hub: Hub) -> None:
    """(H14) The one who asked for it too."""
    one, two = join(hub, "one"), join(hub, "two")
    other = hub.subscribe(replace(ask(), topic="t2"), program("x"), 0, endpoint="x", id_="x")[0]
    hub.opened(other, [], 0)
    actions = hub.tell("t1", [notice()], 5)
    assert (heard(actions, one), heard(actions, two), heard(actions, other)) == (["e1"], ["e1"], [])


@pytest.mark.parametrize(
    ("status", "reason"), [(409, "refused"), (404, "refused"), (500, "failed"), (503, "failed"), (302, "refused")]
)
def test_whoever_refuses_is_behind(hub: Hub, status: int, reason: str) -> None:
    """(H16) (H17)"""
    made = join(hub)
    hub.tell("t1", [notice()], 0)
    [answered, behind] = hub.answered(made, Answer("e1", status), 5)
    assert kinds([answered]) == ["Answered"]
    assert isinstance(behind, Behind)
    assert (behind.reason, behind.notice and behind.notice.id) == (reason, "e1")


def test_whoever_follows_is_in_step(hub: Hub) -> None:
    """(H16)"""
    made = join(hub)
    hub.tell("t1", [notice()], 0)
    assert kinds(hub.answered(made, Answer("e1", 200), 5)) == ["Answered", "Follows"]
    assert hub.tick(11_000) == []


def test_202_may_be_refused_for_ten_seconds(hub: Hub) -> None:
    """(H16) Then it stands."""
    one, two = join(hub, "one"), join(hub, "two")
    hub.tell("t1", [notice()], 0)
    for each in (one, two):
        assert kinds(hub.answered(each, Answer("e1", 202), 4_000)) == ["Answered"]
    assert kinds(hub.tick(13_999)) == []
    refused = hub.blamed("t1", "two", "d1", "e1", 13_999)
    assert [(a.subscription, a.reason) for a in refused if isinstance(a, Behind)] == [(two, "refused")]
    settled = hub.tick(14_000)
    assert [action.subscription for action in settled if isinstance(action, Follows)] == [one]


def test_silence_ends_the_subscription(hub: Hub) -> None:
    """(H18) Ten seconds, then it is named, denied and closed."""
    join(hub)
    hub.tell("t1", [notice()], 1_000)
    assert hub.tick(10_999) == []
    actions = hub.tick(11_000)
    assert kinds(actions) == ["Behind", "Send", "Close", "Ended"]
    behind = actions[0]
    assert isinstance(behind, Behind)
    assert behind.reason == "silent"
    assert len(hub) == 0


@pytest.mark.parametrize(
    ("code", "told"),
    [(1000, ["Follows"]), (1001, ["Follows"]), (1006, ["Behind"]), (1011, ["Behind"]), (1005, ["Behind"])],
)
def test_a_closed_socket(hub: Hub, code: int, told: list[str]) -> None:
    """(H19) Who says goodbye is not missed."""
    made = join(hub)
    assert kinds(hub.closed(made, code, 5)) == told
    assert hub.closed(made, code, 6) == []


def test_coming_back_to_the_same_endpoint(hub: Hub) -> None:
    """(H6) (H19) What is open is told again, and following it settles what was said."""
    made = join(hub)
    hub.tell("t1", [notice(1)], 0)
    hub.closed(made, 1006, 5)
    assert hub.tell("t1", [notice(2)], 6) == []
    assert hub.tick(20_000) == []
    back = hub.opened(made, [notice(2)], 30_000)
    assert heard(back, made) == ["e2"]
    assert kinds(hub.answered(made, Answer("e2", 200), 30_001)) == ["Answered", "Follows"]


def test_what_was_closed_meanwhile_is_told_as_closed(hub: Hub) -> None:
    """(H6) (H27) Who was away must not go on showing the patient of then."""
    made = join(hub)
    hub.tell("t1", [notice(1)], 0)
    hub.closed(made, 1006, 5)
    actions = hub.opened(made, [], 10)
    [event] = [one["event"] for one in messages(actions) if "event" in one]
    assert (event["hub.event"], event["context"]) == ("Patient-close", list(notice(1).context))
    assert kinds(actions) == ["Send", "Send"]
    fresh = join(hub, "fresh")
    hub.closed(fresh, 1006, 5)
    assert kinds(hub.opened(fresh, [], 10)) == ["Send", "Follows"]


def test_updates_and_selections_need_no_answer(hub: Hub) -> None:
    """(H20) Nobody is out of sync for having refused or not answered one."""
    made = join(hub, events="DiagnosticReport-update,DiagnosticReport-select")
    hub.tell("t1", [notice(1, "DiagnosticReport-update"), notice(2, "DiagnosticReport-select")], 0)
    assert hub.answered(made, Answer("e1", 409), 5) == []
    assert hub.tick(60_000) == []


def test_only_the_newest_event_shows_that_it_follows(hub: Hub) -> None:
    """(H21) Who followed the older event may still show the older patient."""
    made = join(hub)
    hub.tell("t1", [notice(1)], 0)
    hub.answered(made, Answer("e1", 409), 1)
    hub.tell("t1", [notice(2)], 2)
    hub.tell("t1", [notice(3)], 3)
    assert kinds(hub.answered(made, Answer("e2", 200), 4)) == ["Answered"]
    assert kinds(hub.answered(made, Answer("e3", 200), 5)) == ["Answered", "Follows"]


def test_a_refused_event_is_told_again(hub: Hub) -> None:
    """(H22) The same one, every ten seconds, until it follows or something newer happened."""
    made = join(hub)
    hub.tell("t1", [notice(1)], 0)
    hub.answered(made, Answer("e1", 409), 1_000)
    assert hub.tick(10_999) == []
    [again] = messages(hub.tick(11_000))
    assert (again["id"], again["timestamp"]) == ("e1", "1970-01-01T00:00:01.000Z")
    hub.answered(made, Answer("e1", 409), 12_000)
    assert heard(hub.tick(22_000), made) == ["e1"]
    assert kinds(hub.answered(made, Answer("e1", 200), 23_000)) == ["Answered", "Follows"]
    assert hub.tick(60_000) == []


def test_its_initiator_may_tell_an_event_again(hub: Hub) -> None:
    """(H22) To those that are not in step, and to nobody else; the hub would have told it again itself."""
    one, two = join(hub, "one"), join(hub, "two")
    hub.tell("t1", [notice(1)], 0)
    hub.answered(one, Answer("e1", 200), 1)
    assert hub.tell_again("t1", "e1", 1) == []
    hub.answered(two, Answer("e1", 409), 1)
    again = hub.tell_again("t1", "e1", 5_000)
    assert (heard(again, one), heard(again, two)) == ([], ["e1"])
    assert hub.tell_again("t1", "e1", 5_001) == []  # it has yet to answer
    assert hub.tell_again("t1", "e0", 5_001) == []
    hub.answered(two, Answer("e1", 409), 6_000)
    assert (hub.tick(15_999), heard(hub.tick(16_000), two)) == ([], ["e1"])


BOTH = "Patient-open,Patient-close,ImagingStudy-open,ImagingStudy-close"


def test_who_refused_the_patient_is_not_in_step_for_having_closed_a_study(hub: Hub) -> None:
    """(H17) (H22) (W19) What is not followed is told again until it is, whatever else is followed meanwhile."""
    made = join(hub, events=BOTH)
    hub.tell("t1", [notice(1)], 0)
    hub.tell("t1", [notice(2, "ImagingStudy-open")], 1)
    hub.answered(made, Answer("e1", 409), 2)
    hub.answered(made, Answer("e2", 409), 2)
    hub.tell("t1", [notice(3, "ImagingStudy-close")], 3)
    assert kinds(hub.answered(made, Answer("e3", 200), 4)) == ["Answered"]
    assert made.behind == "refused"
    assert heard(hub.tick(10_003), made) == ["e1"]
    assert kinds(hub.answered(made, Answer("e1", 200), 10_004)) == ["Answered", "Follows"]


def test_who_shows_a_study_shows_its_patient(hub: Hub) -> None:
    """(H12) An opening is complete in itself."""
    made = join(hub, events=BOTH)
    hub.tell("t1", [notice(1), notice(2, "ImagingStudy-open")], 0)
    hub.answered(made, Answer("e1", 409), 1)
    assert kinds(hub.answered(made, Answer("e2", 200), 2)) == ["Answered", "Follows"]
    assert hub.tick(60_000) == []


def test_another_patient_leaves_no_study_to_follow(hub: Hub) -> None:
    """(H21) A study that was refused went with its patient; the patient of now is what has to be shown."""
    made = join(hub, events=BOTH)
    hub.tell("t1", [notice(1), notice(2, "ImagingStudy-open")], 0)
    hub.answered(made, Answer("e1", 200), 1)
    hub.answered(made, Answer("e2", 409), 1)
    hub.tell("t1", [notice(3)], 2)
    assert heard(hub.tick(10_001), made) == []
    assert kinds(hub.answered(made, Answer("e3", 200), 10_001)) == ["Answered", "Follows"]


def test_nobody_follows_before_it_has_answered_all(hub: Hub) -> None:
    """(H16) The patient alone, or a decision that is still to come, is not what is open."""
    made = join(hub, events=BOTH)
    hub.tell("t1", [notice(1), notice(2, "ImagingStudy-open")], 0)
    assert kinds(hub.answered(made, Answer("e1", 200), 1)) == ["Answered"]
    assert kinds(hub.answered(made, Answer("e2", 202), 2)) == ["Answered"]
    assert kinds(hub.answered(made, Answer("e2", 202), 3)) == []
    # Who has answered 202 may say by the same way what it has decided.
    assert kinds(hub.answered(made, Answer("e2", 200), 4)) == ["Answered", "Follows"]
    hub.tell("t1", [notice(3, "ImagingStudy-close")], 5)
    hub.answered(made, Answer("e3", 202), 6)
    assert kinds(hub.answered(made, Answer("e3", 409), 7)) == ["Answered", "Behind"]


def test_one_of_two_windows_refuses(hub: Hub) -> None:
    """(H16) (H17) A SyncError that names its subscriber is about that one."""
    one, two = join(hub, "pacs"), hub.subscribe(ask(), replace(program(), name="Window 2"), 0, endpoint="2", id_="2")[0]
    hub.opened(two, [], 0)
    hub.tell("t1", [notice()], 0)
    for each in (one, two):
        hub.answered(each, Answer("e1", 202), 1)
    blamed = hub.blamed("t1", "pacs", "d1", "e1", 2, name="Window 2")
    assert [a.subscription for a in blamed if isinstance(a, Behind)] == [two]
    either = hub.blamed("t1", "pacs", "d1", "e1", 3)
    assert [a.subscription for a in either if isinstance(a, Behind)] == [one, two]


def test_coming_back_means_following_all_that_is_open(hub: Hub) -> None:
    """(H6) (H19) Also for a subscription that another process made."""
    made = join(hub, events=BOTH)
    hub.closed(made, 1006, 1)
    assert hub.release(made) == []  # nothing to close
    elsewhere = Hub()
    elsewhere.adopt(made)
    elsewhere.opened(made, [notice(1), notice(2, "ImagingStudy-open")], 5)
    assert kinds(elsewhere.answered(made, Answer("e1", 200), 6)) == ["Answered"]
    assert kinds(elsewhere.answered(made, Answer("e2", 200), 7)) == ["Answered", "Follows"]
    assert kinds(elsewhere.release(made)) == ["Close"]
    assert elsewhere.tell("t1", [notice(3)], 8) == []


def test_what_is_to_be_written_down(hub: Hub) -> None:
    """(H6) Its socket, its list and what it was told is open, so that another process can go on."""
    made = join(hub)
    for actions in (
        hub.tell("t1", [notice(1)], 0),
        hub.subscribe(ask(endpoint=made.endpoint), program(), 1, endpoint="x", id_="x")[1],
        hub.closed(made, 1006, 2),
        hub.opened(made, [], 3),
        hub.closed(made, 1000, 4),
        hub.opened(made, [], 5),
    ):
        assert Changed(made) in actions
    assert Changed(made) not in hub.answered(made, Answer("e1", 409), 6)


def test_what_it_refused_before_it_was_cut_off_is_not_told_again(hub: Hub) -> None:
    """(H6) (H22) Back, it is told what is open now, and only that."""
    made = join(hub, events="ImagingStudy-open")
    hub.tell("t1", [notice(1, "ImagingStudy-open")], 0)
    hub.answered(made, Answer("e1", 409), 1)
    hub.closed(made, 1006, 2)
    assert kinds(hub.opened(made, [], 3)) == ["Send", "Follows"]
    assert hub.tick(60_000) == []
    assert hub.tell_again("t1", "e1", 60_000) == []


def test_a_program_that_starts_anew_each_time(hub: Hub) -> None:
    """(H3) Its oldest endpoint that nobody uses gives way; with all in use there is no more."""
    full = Hub(HubSettings(per_program=2))
    idle, _ = full.subscribe(ask(), program(), 0, endpoint="idle", id_="f_idle")
    busy = join(full, "pacs", at_ms=1)
    _, actions = full.subscribe(ask(), program(), 2, endpoint="third", id_="f_3")
    assert [(one.subscription, one.why) for one in actions if isinstance(one, Ended)] == [
        (idle, "too many of one program")
    ]
    third = full.find("third")
    assert third is not None
    full.opened(third, [], 3)
    with pytest.raises(HubRefusal) as refused:
        full.subscribe(ask(), program(), 4, endpoint="fourth", id_="f_4")
    assert refused.value.status == 503
    assert full.find(busy.endpoint) is busy
    full.subscribe(ask(), program("other"), 4, endpoint="other", id_="f_5")


@pytest.mark.parametrize(
    ("scopes", "events", "granted"),
    [
        (ALL, "Patient-open,Encounter-open", ("Patient-open", "Encounter-open")),
        ("fhircast/patient-OPEN.read", "Patient-open,Encounter-open", ("Patient-open",)),
        ("fhircast/*.write fhircast/Encounter-open.*", "Patient-open,Encounter-open", ("Encounter-open",)),
    ],
)
def test_only_what_the_scopes_cover_is_granted(hub: Hub, scopes: str, events: str, granted: tuple[str, ...]) -> None:
    """(H23)"""
    made, _ = hub.subscribe(ask(events), program(scopes=scopes), 0, endpoint="s", id_="f")
    assert made.events == granted


@pytest.mark.parametrize("scopes", ["", "fhircast/*.write", "fhircast/Encounter-open.read", "patient/Patient.rs"])
def test_nothing_to_hear_is_refused(hub: Hub, scopes: str) -> None:
    """(H23) (H3)"""
    with pytest.raises(HubRefusal) as refused:
        hub.subscribe(ask(), program(scopes=scopes), 0, endpoint="s", id_="f")
    assert refused.value.status == 403
    assert len(hub) == 0


def test_a_logout_is_for_the_persons_own_programs(hub: Hub) -> None:
    """(H30) They lock or answer that they do not."""
    mine = join(hub, "mine", events="UserLogout")
    made, _ = hub.subscribe(ask("UserLogout"), program("theirs", participant="p2"), 0, endpoint="s2", id_="f2")
    hub.opened(made, [], 0)
    actions = hub.tell("t1", [notice(1, "UserLogout", only="p1")], 0)
    assert (heard(actions, mine), heard(actions, made)) == (["e1"], [])
    assert kinds(hub.answered(mine, Answer("e1", 409), 1)) == ["Answered", "Behind"]


def test_sync_errors_are_for_all_the_others(hub: Hub) -> None:
    """(H17) Nobody opts out, and nobody hears its own."""
    one, two = join(hub, "one"), join(hub, "two", events="Encounter-open")
    actions = hub.tell("t1", [notice(1, "SyncError", skip=one.id)], 0)
    assert (heard(actions, one), heard(actions, two)) == ([], ["e1"])
    assert hub.tick(60_000) == []


def test_who_does_not_read_is_dropped(hub: Hub) -> None:
    """Nothing is kept for it for ever."""
    made = join(hub)
    assert kinds(hub.overflowed(made)) == ["Behind", "Send", "Close", "Ended"]
    busy = join(hub, "busy")
    actions = [a for n in range(MAX_WAITING + 1) for a in hub.tell("t1", [notice(n)], 0)]
    assert [a.reason for a in actions if isinstance(a, Behind) and a.subscription is busy] == ["slow"]
    assert len(hub) == 0


def test_no_sign_of_life(hub: Hub) -> None:
    """(H19)"""
    made = join(hub)
    assert kinds(hub.unheard(made, 5)) == ["Close", "Behind"]


def test_the_end_of_the_session_ends_them_all(hub: Hub) -> None:
    """(H9)"""
    join(hub, "one")
    hub.subscribe(ask(), program("two"), 0, endpoint="two", id_="two")
    actions = hub.end_topic("t1", "session ended")
    assert [one["hub.reason"] for one in messages(actions)] == ["session ended"]
    assert [one.why for one in actions if isinstance(one, Ended)] == ["session ended"] * 2
    assert [one.code for one in actions if isinstance(one, Close)] == [1000]


def test_subscriptions_are_bounded() -> None:
    """(H3) By topic and in all."""
    hub = Hub(HubSettings(per_topic=1, in_all=2))
    join(hub)
    with pytest.raises(HubRefusal) as refused:
        join(hub, "second")
    assert refused.value.status == 503
    hub.subscribe(replace(ask(), topic="t2"), program(), 0, endpoint="b", id_="b")
    with pytest.raises(HubRefusal):
        hub.subscribe(replace(ask(), topic="t3"), program(), 0, endpoint="c", id_="c")


def test_too_much_was_missed(hub: Hub) -> None:
    """(H6) What is open now is told, and what is not any more as closed."""
    made = join(hub)
    hub.tell("t1", [notice(1), notice(2, "Encounter-open")], 0)
    both = join(hub, "both", events="Patient-open,Patient-close,Encounter-open,Encounter-close")
    hub.tell("t1", [notice(3, "Encounter-open")], 0)
    actions = hub.resynced("t1", [notice(9)], 5)
    assert [one["event"]["hub.event"] for one in messages(actions, made)] == ["Patient-open"]
    assert [one["event"]["hub.event"] for one in messages(actions, both)] == ["Encounter-close", "Patient-open"]
