"""[G9] Consult tokens: only what we signed, unchanged and in time, is read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.identity.core.tokens import ConsultClaims, TokenInvalid, read, sign
from signaling.core.model import Role

KEY = bytes(range(32))
NOW_MS = 1_750_000_000_000
ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,64}", fullmatch=True)
claims = st.builds(
    ConsultClaims,
    jti=ids,
    exp_ms=st.integers(NOW_MS + 1, NOW_MS + 60_000),
    consult=ids,
    participant=ids,
    kind=st.sampled_from(["person", "guest", "screen", "device"]),
    subject=ids,
    role=st.sampled_from(Role),
    credential=ids,
)


@given(claims)
def test_what_was_signed_is_read_until_it_expires(one: ConsultClaims) -> None:
    token = sign(one, KEY)
    assert read(token, KEY, NOW_MS) == one
    assert read(token, KEY, one.exp_ms - 1) == one
    with pytest.raises(TokenInvalid, match="expired"):
        read(token, KEY, one.exp_ms)


@given(claims, st.binary(min_size=32, max_size=32))
def test_another_key_reads_nothing(one: ConsultClaims, key: bytes) -> None:
    assume(key != KEY)
    with pytest.raises(TokenInvalid):
        read(sign(one, KEY), key, NOW_MS)


@given(claims, st.data())
def test_a_token_with_any_character_changed_is_refused(one: ConsultClaims, data: st.DataObject) -> None:
    token = sign(one, KEY)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."))
    changed = token[:at] + other + token[at + 1 :]
    assume(_bytes(changed) != _bytes(token))
    with pytest.raises(TokenInvalid):
        read(changed, KEY, NOW_MS)


@given(st.text() | st.binary() | st.none() | st.integers() | st.lists(st.text()) | st.text("aeyJ.-_", max_size=300))
def test_whatever_is_sent_only_token_invalid_comes_out(thing: Any) -> None:
    with pytest.raises(TokenInvalid):
        read(thing, KEY, NOW_MS)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS256", "HS256 "])
def test_the_token_does_not_choose_the_algorithm(algorithm: str) -> None:
    body = ConsultClaims(
        jti="j", exp_ms=NOW_MS + 1, consult="c", participant="p", kind="person", subject="d",
        role=Role.DOCTOR, credential="h",
    )  # fmt: skip
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
    parts = sign(body, KEY).split(".")
    for signature in ("", parts[2]):
        with pytest.raises(TokenInvalid):
            read(f"{head}.{parts[1]}.{signature}", KEY, NOW_MS)


def test_a_token_for_another_purpose_is_refused() -> None:
    body = ConsultClaims(
        aud="consilium/other", jti="j", exp_ms=NOW_MS + 1, consult="c", participant="p", kind="person", subject="d",
        role=Role.DOCTOR, credential="h",
    )  # fmt: skip
    with pytest.raises(TokenInvalid, match="purpose"):
        read(sign(body, KEY), KEY, NOW_MS)


def _bytes(token: str) -> list[bytes | str]:
    """What a token decodes to: unused bits of a last base64 letter are not a change."""
    found: list[bytes | str] = []
    for part in token.split("."):
        try:
            found.append(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except ValueError:
            found.append(part)
    return found
