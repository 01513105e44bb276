"""Pure rules of identity and of the record."""

from __future__ import annotations

import base64
import contextlib
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.errors import ApiCode, ApiError
from server.api.whip import _api_error
from server.identity.core.policy import ALLOWED, Action, allowed
from server.identity.core.principal import AccessRole, participant_id
from server.identity.core.rules import (
    CODE_ALPHABET,
    pairing_code,
    password_problem,
    read_code,
    session_alive,
)
from server.identity.core.secret import encode_secret, hash_secret
from server.log import PRIVATE, redact
from server.record.core.banner import BannerInvalid, banner_of
from server.record.core.dates import parse_date
from server.record.core.index import index_values
from server.record.core.resource import ResourceInvalid, file_resource
from signaling.core.errors import ErrorCode, MediaFull, Refusal, ServerStopping

# ------------------------------------------------------------- identity

D, N, A, G = AccessRole.DOCTOR, AccessRole.NURSE, AccessRole.ADMIN, AccessRole.GUEST
REC, OTH, ROOM, DEV = AccessRole.RECORD_SCREEN, AccessRole.OTHER_SCREEN, AccessRole.ROOM, AccessRole.DEVICE


@pytest.mark.parametrize(
    ("action", "roles"),
    [
        (Action.SEE_CONSULT, {D, N, A, G, REC, OTH, ROOM, DEV}),
        (Action.ENTER_CONSULT, {D, N, G, REC, OTH, ROOM, DEV}),
        (Action.SEE_PATIENTS, {D, N, G, REC, OTH}),
        (Action.READ_RECORD, {D, N, G, REC}),
        (Action.SEE_WAVEFORMS, {D, N, G, REC, OTH}),
        (Action.EXPORT_WAVEFORM, {D, N, G}),
        (Action.READ_ENDED_WAVEFORMS, {D, N}),
        (Action.IMPORT_WAVEFORM, {D, N}),
        (Action.PREPARE_CASE_PACK, {D, N}),
        (Action.SEND_CASE_PACK, {D}),
        (Action.READ_CASE_PACK, {D, N}),
        (Action.INVITE_GUEST, {D, N}),
        (Action.SEE_STATIONS, {D, N, A}),
        (Action.MANAGE_SCREENS, {D, N, A}),
        (Action.MANAGE_CLIENTS, {A}),
        (Action.READ_AUDIT, {A}),
    ],
)
def test_permission_table(action: Action, roles: set[AccessRole]) -> None:
    """[G11] [C34] Every cell, written out a second time."""
    assert {role for role in AccessRole if allowed(role, action)} == roles


def test_permission_table_is_complete() -> None:
    assert set(ALLOWED) == set(Action)


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ({}, True),
        ({"revoked": True}, False),
        ({"now_ms": 1_999}, True),
        ({"now_ms": 2_000}, False),
        ({"last_seen_ms": 501}, True),
        ({"last_seen_ms": 500}, False),
    ],
)
def test_a_session_ends_by_sign_out_age_or_idleness(change: dict[str, Any], alive: bool) -> None:
    """[G3]"""
    base = {"now_ms": 1_000, "last_seen_ms": 900, "expires_at_ms": 2_000, "revoked": False, "idle_ms": 500}
    if "now_ms" in change:
        base["last_seen_ms"] = change["now_ms"]
    assert session_alive(**{**base, **change}) is alive


@given(st.binary(min_size=4, max_size=8))
def test_a_pairing_code_has_no_letters_that_look_alike(random: bytes) -> None:
    code = pairing_code(random)
    assert len(code) == 6
    assert not set(code) & set("0O1I")
    assert read_code(f" {code[:3]}-{code[3:].lower()} ") == code


def test_pairing_codes_use_the_whole_alphabet_evenly() -> None:
    seen = {pairing_code(bytes([0, 0, 0, value]))[0] for value in range(32)}
    assert seen == set(CODE_ALPHABET)


@given(st.text(string.printable, max_size=10))
def test_what_cannot_be_a_code_is_none(typed: str) -> None:
    found = read_code(typed)
    assert found is None or (len(found) == 6 and set(found) <= set(CODE_ALPHABET))


@pytest.mark.parametrize(
    ("password", "fine"),
    [("short", False), ("correct horse", True), ("a" * 129, False), ("my wang pass", False), ("aaaaaaaaaaab", False)],
)
def test_password_rules(password: str, fine: bool) -> None:
    assert (password_problem(password, "Wang") is None) is fine


def test_secrets_are_256_bits_and_kept_as_a_hash() -> None:
    secret = encode_secret(bytes(range(32)))
    assert len(secret) == 43
    assert secret not in hash_secret(secret)
    assert hash_secret(secret) != hash_secret(secret + "=")


def test_participants_are_told_apart_by_consult_kind_and_subject() -> None:
    ids = {participant_id(c, k, s) for c in ("c1", "c2") for k in ("person", "guest") for s in ("a", "b")}
    assert len(ids) == 8
    assert participant_id("c1", "person", "a") == participant_id("c1", "person", "a")


def test_every_api_code_has_a_sentence_in_both_languages() -> None:
    for code in ApiCode:
        error = ApiError(code)
        body = error.body["error"]
        assert body["code"] == code.value
        assert 400 <= error.status < 600
        assert body["en"].endswith(".")
        assert body["zh"].endswith("。")


@pytest.mark.parametrize(
    ("refusal", "code", "status", "retry_after_s"),
    [
        (MediaFull("consult"), "too_busy", 503, 30),
        (Refusal(ErrorCode.TOO_BUSY, "too many publishers"), "too_busy", 503, 30),
        (ServerStopping(), "stopping", 503, 30),
    ],
)
def test_an_encoder_is_told_why_there_is_no_room_and_when_to_ask_again(
    refusal: Refusal, code: str, status: int, retry_after_s: int
) -> None:
    error = _api_error(refusal)
    assert error.body == {"error": {"code": code, "en": refusal.en, "zh": refusal.zh}}
    assert (error.status, error.retry_after_s) == (status, retry_after_s)


def test_an_encoder_asks_again_soon_where_a_worker_is_replaced() -> None:
    error = _api_error(Refusal(ErrorCode.MEDIA_UNAVAILABLE))
    assert (error.code, error.status, error.retry_after_s) == (ApiCode.MEDIA_UNAVAILABLE, 503, 2)


# --------------------------------------------------------------- record


def patient(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "pt1",
        "name": [{"text": "Zhang Guilan"}, {"family": "张", "given": ["桂", "兰"]}],
        "gender": "female",
        "birthDate": "1948-03-09",
        "identifier": [{"type": {"text": "MRN"}, "value": "17"}, {"type": {"coding": [{"code": "NI"}]}, "value": "33"}],
        **more,
    }


def test_the_banner_shows_the_chinese_name_first_and_two_identifiers() -> None:
    """[W18]"""
    banner = banner_of(patient(), test=True)
    assert (banner.name, banner.name_latin) == ("张桂兰", "Zhang Guilan")
    assert [(one.label, one.value) for one in banner.identifiers] == [("MRN", "17"), ("NI", "33")]
    assert (banner.sex, banner.birth_date, banner.test) == ("female", "1948-03-09", True)


@pytest.mark.parametrize(
    "change",
    [{"name": []}, {"identifier": [{"value": "17"}]}, {"birthDate": "1948"}, {"birthDate": None}],
)
def test_a_patient_who_cannot_be_told_apart_has_no_banner(change: dict[str, Any]) -> None:
    """[W18]"""
    broken = {k: v for k, v in patient(**change).items() if v is not None}
    with pytest.raises(BannerInvalid):
        banner_of(broken, test=False)


def test_a_resource_is_filed_by_patient_category_code_and_date() -> None:
    filed = file_resource(
        {
            "resourceType": "Observation",
            "id": "k",
            "status": "final",
            "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
            "category": [{"coding": [{"code": "laboratory"}]}],
            "code": {"coding": [{"code": "2823-3"}]},
            "subject": {"reference": "Patient/pt1"},
            "effectiveDateTime": "2025-01-02",
        }
    )
    values = index_values(filed.content)
    assert (filed.patient_id, filed.category, filed.test) == ("pt1", "laboratory", True)
    assert {("code", "", "2823-3"), ("category", "", "laboratory")} <= values.tokens
    assert values.clinical == parse_date("2025-01-02")


OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "k",
    "status": "final",
    "code": {"text": "K"},
    "subject": {"reference": "Patient/pt1"},
}
BINARY: dict[str, Any] = {
    "resourceType": "Binary",
    "id": "b",
    "contentType": "text/plain",
    "securityContext": {"reference": "Patient/pt1"},
    "data": base64.b64encode("报告".encode()).decode(),
}


def test_the_samples_below_are_good() -> None:
    file_resource(OBSERVATION)
    file_resource(BINARY)
    file_resource(patient())


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "Patient",
        {},
        {"resourceType": "Spaceship", "id": "x"},
        {"resourceType": ["Patient"]},
        {**OBSERVATION, "status": 5},
        {**OBSERVATION, "unknownField": 1},
        {**OBSERVATION, "code": None},
        {k: v for k, v in OBSERVATION.items() if k != "code"},
        {**OBSERVATION, "effectiveDateTime": "yesterday"},
        {**OBSERVATION, "valueQuantity": {"value": "many"}},
        {**OBSERVATION, "id": None},
        {**OBSERVATION, "id": "../../etc"},
        {**OBSERVATION, "subject": {"reference": "Group/g1"}},
        {**OBSERVATION, "subject": {"reference": "Patient/a/b"}},
        {k: v for k, v in OBSERVATION.items() if k != "subject"},
        {**OBSERVATION, "subject": "Patient/pt1"},
        {**OBSERVATION, "meta": "tagged"},
        {**OBSERVATION, "meta": {"tag": "HTEST"}},
        patient(identifier=[]),
        patient(gender=7),
        patient(name="Zhang"),
        {**BINARY, "contentType": "text/html"},
        {**BINARY, "data": "***"},
        {**BINARY, "data": base64.b64encode(b"\xff\xfe").decode()},
        {**BINARY, "contentType": "image/png"},
        {k: v for k, v in BINARY.items() if k != "securityContext"},
    ],
)
def test_a_resource_that_does_not_parse_is_refused_with_a_typed_error(raw: Any) -> None:
    with pytest.raises(ResourceInvalid):
        file_resource(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([OBSERVATION, BINARY, patient()]), st.data())
def test_whatever_stands_in_a_field_only_resource_invalid_comes_out(base: dict[str, Any], data: st.DataObject) -> None:
    fields = [*base, "meta", "category", "extension", "effectivePeriod"]
    raw = {**base, data.draw(st.sampled_from(fields)): data.draw(json_values)}
    with contextlib.suppress(ResourceInvalid):
        file_resource(raw)


def test_the_message_names_the_place_but_never_the_value() -> None:
    """[G8]"""
    with pytest.raises(ResourceInvalid) as caught:
        file_resource(patient(birthDate="born to Zhang Guilan"))
    assert "birthDate" in str(caught.value)
    assert "Guilan" not in str(caught.value)


# ------------------------------------------------------------------ log


def test_private_fields_and_anything_like_a_token_are_blanked() -> None:
    """[G8]"""
    token = encode_secret(bytes(range(32)))
    event = redact(
        None,
        "info",
        {
            "event": f"GET /join#{token} from a browser",
            "name": "张桂兰",
            "Password": "x",
            "nested": {"token": "abc", "deep": [f"Bearer {token}"]},
            "consult": "c_41",
            "dropped_packets": 256,
        },
    )
    assert event["name"] == event["Password"] == event["nested"]["token"] == PRIVATE
    assert token not in str(event)
    assert (event["consult"], event["dropped_packets"]) == ("c_41", 256)
