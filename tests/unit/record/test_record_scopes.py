"""Scopes, PKCE and client assertions, without a server."""

from __future__ import annotations

import pytest

from server.smart.core.pkce import challenge_of, is_challenge, proves
from server.smart.core.request import answer_location, check_uri
from server.smart.core.scopes import Scopes


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("patient/Observation.rs", "patient/Observation.rs"),
        ("patient/Observation.read user/*.write", "patient/Observation.read user/*.write"),
        ("patient/Observation.sr", ""),
        ("patient/Observation.", ""),
        ("patient/observation.rs", ""),
        ("patient/Observation.rs?category=laboratory", ""),
        ("tenant/*.rs", ""),
        ("openid  fhirUser openid", "openid fhirUser"),
        ("fhircast/Patient-open.read fhircast/*.write fhircast/x", "fhircast/Patient-open.read fhircast/*.write"),
        ("patient/*.cruds\u00a0user/*.cruds", ""),
    ],
)
def test_what_is_not_understood_is_not_granted(text: str, kept: str) -> None:
    assert Scopes.parse(text).text == kept


def test_both_spellings_mean_the_same() -> None:
    """[SMART 2.2, 3.0.2.3] read is rs, write is cud."""
    scopes = Scopes.parse("patient/Observation.read user/*.write system/Patient.r fhircast/Patient-open.read")
    assert [scopes.allows("patient", "Observation", action) for action in "cruds"] == [False, True, False, False, True]
    assert [scopes.allows("user", "Goal", action) for action in "cruds"] == [True, False, True, True, False]
    assert not scopes.allows("patient", "Patient", "r")
    assert not scopes.allows("user", "Observation", "r"), "a level is not another level"
    assert scopes.level_for("Patient", "r") == "system"
    assert scopes.level_for("Observation", "s") == "patient"
    assert scopes.level_for("Patient", "s") is None
    assert scopes.allows_event("patient-OPEN", "read")
    assert not scopes.allows_event("patient-open", "write")
    assert not scopes.allows_event("patient-close", "read")


@pytest.mark.parametrize(
    ("asked", "most", "granted"),
    [
        ("patient/*.cruds", "patient/Observation.rs", "patient/Observation.rs"),
        ("patient/Observation.cruds", "patient/*.rs", "patient/Observation.rs"),
        ("patient/*.rs", "patient/*.cruds", "patient/*.rs"),
        ("user/*.rs", "patient/*.rs", ""),
        ("system/*.rs", "system/*.rs", ""),
        ("openid offline_access", "openid", "openid"),
        ("fhircast/*.*", "fhircast/*.read", "fhircast/*.read"),
        ("fhircast/Patient-open.*", "fhircast/*.*", "fhircast/Patient-open.*"),
    ],
)
def test_no_more_is_granted_than_may_be(asked: str, most: str, granted: str) -> None:
    found = Scopes.parse(asked).within(Scopes.parse(most), roles=("patient", "user"))
    assert found.text == granted


def test_the_challenge_of_the_rfc() -> None:
    """[RFC 7636 appendix B]"""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert challenge_of(verifier) == challenge
    assert is_challenge(challenge)
    assert proves(verifier, challenge)
    assert not proves(verifier[:-1] + "l", challenge)
    assert not proves("short", challenge_of("short"))


@pytest.mark.parametrize(
    "uri",
    ["http://other.example/x", "javascript:alert(1)", "https://a/#b", "/callback", "https://a/ b", "http://127.0.0.1.evil/x",
     "http://localhost@evil/x", "data:text/html,x"],
)  # fmt: skip
def test_addresses_that_nobody_may_register(uri: str) -> None:
    with pytest.raises(ValueError):
        check_uri(uri)


def test_an_answer_is_added_to_the_query() -> None:
    assert answer_location("https://a/b", {"code": "x y", "state": ""}) == "https://a/b?code=x+y"
    assert answer_location("https://a/b?c=d", {"code": "x"}) == "https://a/b?c=d&code=x"
    assert check_uri("http://localhost:9999/callback")
