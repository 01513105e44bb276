"""ICE-lite decisions: what an authenticated check may change."""

from media.core.ice import (
    CLOSED_AFTER_MS,
    MAX_ADDRESSES,
    UNSTABLE_AFTER_MS,
    Consent,
    Credentials,
    IceLite,
)

OLD, NEW, NEWER = (Credentials(name * 4, name * 22) for name in "abc")
HOME, AWAY = ("192.0.2.1", 1000), ("192.0.2.2", 2000)


def test_the_first_check_is_enough_to_answer_to() -> None:
    """A client may send DTLS before it nominates; there must be somewhere to answer."""
    ice = IceLite(OLD)

    outcome = ice.check("aaaa", HOME, use_candidate=False, now_ms=0)

    assert outcome.learnt
    assert outcome.moved
    assert ice.selected == HOME


def test_only_nomination_moves_media() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)

    assert not ice.check("aaaa", AWAY, use_candidate=False, now_ms=1).moved
    assert ice.selected == HOME
    assert ice.check("aaaa", AWAY, use_candidate=True, now_ms=2).moved
    assert ice.selected == AWAY


def test_repeated_nomination_of_the_same_address_moves_nothing() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)

    assert not ice.check("aaaa", HOME, use_candidate=True, now_ms=1).moved


def test_a_restart_keeps_the_old_generation_for_as_long_as_it_takes() -> None:
    """ORTC trap 19: pymediasoup goes on with the old credentials for ever."""
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)

    assert ice.restart(NEW) == []
    ice.check("aaaa", HOME, use_candidate=True, now_ms=10**9)

    assert ice.password("aaaa") == OLD.password
    assert ice.password("bbbb") == NEW.password


def test_nomination_with_the_new_generation_retires_the_old() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)
    ice.restart(NEW)
    assert ice.check("bbbb", AWAY, use_candidate=False, now_ms=1).retired_ufrags == []

    outcome = ice.check("bbbb", AWAY, use_candidate=True, now_ms=2)

    assert outcome.retired_ufrags == ["aaaa"]
    assert outcome.moved
    assert ice.password("aaaa") is None


def test_a_second_restart_keeps_what_is_in_use_and_the_newest() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)
    ice.restart(NEW)

    assert ice.restart(NEWER) == ["bbbb"]

    assert ice.ufrags == ["aaaa", "cccc"]
    assert ice.current == NEWER


def test_at_most_eight_addresses_and_never_the_selected_one_goes() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)
    for port in range(1, MAX_ADDRESSES):
        assert ice.check("aaaa", ("192.0.2.9", port), use_candidate=False, now_ms=port).evicted is None

    outcome = ice.check("aaaa", AWAY, use_candidate=False, now_ms=99)

    assert outcome.evicted == ("192.0.2.9", 1)
    assert HOME in ice.addresses
    assert len(ice.addresses) == MAX_ADDRESSES


def test_consent_by_the_table_of_times() -> None:
    """ARCHITECTURE section 8: 7 s unstable, 30 s closed; a check in between recovers."""
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=1_000)

    assert ice.judge(1_000 + UNSTABLE_AFTER_MS - 1) is Consent.CONNECTED
    assert ice.judge(1_000 + UNSTABLE_AFTER_MS) is Consent.UNSTABLE
    ice.check("aaaa", HOME, use_candidate=False, now_ms=9_000)
    assert ice.judge(9_000) is Consent.CONNECTED
    assert ice.judge(9_000 + CLOSED_AFTER_MS - 1) is Consent.UNSTABLE
    assert ice.judge(9_000 + CLOSED_AFTER_MS) is Consent.CLOSED


def test_closed_is_final() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)
    ice.judge(CLOSED_AFTER_MS)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=CLOSED_AFTER_MS + 1)

    assert ice.judge(CLOSED_AFTER_MS + 1) is Consent.CLOSED


def test_a_transport_that_was_never_used_does_not_die() -> None:
    """Clients create Transports long before they connect them."""
    assert IceLite(OLD).judge(10**9) is Consent.NEW


def test_a_peer_that_said_it_connects_has_thirty_seconds_for_its_first_check() -> None:
    """A publisher behind a firewall that lets only its HTTP through."""
    ice = IceLite(OLD)
    ice.expect(now_ms=1_000)
    ice.expect(now_ms=20_000)

    assert ice.judge(1_000 + CLOSED_AFTER_MS - 1) is Consent.NEW
    assert ice.judge(1_000 + CLOSED_AFTER_MS) is Consent.CLOSED


def test_the_first_check_in_time_is_consent_like_any_other() -> None:
    ice = IceLite(OLD)
    ice.expect(now_ms=0)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=29_000)

    assert ice.judge(CLOSED_AFTER_MS) is Consent.CONNECTED
    assert ice.judge(29_000 + CLOSED_AFTER_MS) is Consent.CLOSED


def test_an_address_is_held_while_its_peer_is_heard() -> None:
    """Somebody who forges a source address cannot cut off the participant who is using it."""
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)

    assert ice.holds(HOME, UNSTABLE_AFTER_MS - 1)
    assert not ice.holds(HOME, UNSTABLE_AFTER_MS)
    assert not ice.holds(AWAY, 0)


def test_an_address_another_transport_proved_is_given_up() -> None:
    ice = IceLite(OLD)
    ice.check("aaaa", HOME, use_candidate=True, now_ms=0)

    ice.forget(HOME)

    assert ice.selected is None
    assert ice.addresses == []
