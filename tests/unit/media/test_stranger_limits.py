"""What a stranger's check may cost: the cheap look, and the limit per source."""

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from media.aio.mux import source_of
from media.core.strangers import BURST, FAILURES_HZ, MAX_SOURCES, StrangerLimit, claimed_ufrag

SECOND_US = 1_000_000


def check(username: str | None = "here1234:there", *, password: str | None = "p" * 22) -> bytes:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    if username is not None:
        request.attributes["USERNAME"] = username
    request.attributes["PRIORITY"] = 1
    if password is not None:
        request.add_message_integrity(password.encode())
    return bytes(request)


def test_the_ufrag_of_a_real_check_is_read() -> None:
    assert claimed_ufrag(check()) == "here1234"
    assert claimed_ufrag(check(password=None)) == "here1234"
    assert claimed_ufrag(check("alone")) == "alone"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        check(None),
        check()[:-4],
        check() + b"\0\0\0\0",
        b"\x01\x01" + check()[2:],
        check()[:4] + b"\0\0\0\0" + check()[8:],
        check("é:there"),
        check("x" * 505),
    ],
    # Each check has a transaction id of its own, and processes that share the tests must agree on their names.
    ids=["empty", "no name", "cut", "longer", "an answer", "no cookie", "not ASCII", "too long a name"],
)
def test_nothing_else_is(datagram: bytes) -> None:
    assert claimed_ufrag(datagram) is None


def test_a_name_behind_the_integrity_is_not_protected_and_not_read() -> None:
    signed = check(None)
    body = signed[20:-8] + b"\0\6\0\4abcd"
    assert claimed_ufrag(signed[:2] + len(body).to_bytes(2, "big") + signed[4:20] + body) is None


@given(st.binary(max_size=600))
def test_no_bytes_break_it(datagram: bytes) -> None:
    claimed_ufrag(datagram)
    claimed_ufrag(check()[:20] + datagram)


def test_failures_are_limited_and_forgiven_with_time() -> None:
    limit = StrangerLimit()
    for _ in range(BURST):
        assert limit.allows("a", 0)
        limit.charge("a", 0)
    assert not limit.allows("a", 0)
    assert limit.allows("b", 0), "only who failed is limited"
    assert limit.allows("a", SECOND_US // FAILURES_HZ)
    tried = 0
    for moment in range(0, 10 * SECOND_US, 1_000):
        if limit.allows("a", moment):
            limit.charge("a", moment)
            tried += 1
    assert tried <= FAILURES_HZ * 10


def test_the_table_is_bounded_and_a_crowd_shares_what_is_left() -> None:
    limit = StrangerLimit()
    for number in range(3 * MAX_SOURCES):
        if limit.allows(number, 0):
            limit.charge(number, 0)
    assert len(limit) == MAX_SOURCES
    assert not limit.allows("newcomer", 0)
    assert limit.allows("newcomer", 5 * SECOND_US), "debts are forgotten"
    limit.charge("newcomer", 5 * SECOND_US)
    assert len(limit) <= MAX_SOURCES


def test_an_ipv6_network_is_one_source() -> None:
    assert source_of(("2001:db8::1", 1, 0, 0)) == source_of(("2001:db8::ffff:2", 2, 0, 0))
    assert source_of(("2001:db8:0:1::1", 1, 0, 0)) != source_of(("2001:db8::1", 1, 0, 0))
    assert source_of(("fe80::1%eth0", 1, 0, 2)) == source_of(("fe80::2", 1, 0, 0))
    assert source_of(("::ffff:192.0.2.1", 1, 0, 0)) != source_of(("::ffff:192.0.2.2", 1, 0, 0))
    assert source_of(("192.0.2.1", 1)) == "192.0.2.1"
