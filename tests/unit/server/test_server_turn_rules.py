"""TURN: addresses, credentials, the secret's whereabouts, the words for firewalls."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.exits import StartError
from server.network import foreign_addresses, openings
from server.settings import Settings, load_settings
from server.turn import coturn_configuration, make_credentials, turn_secret, turn_servers, write_configuration
from server.turn_urls import TurnUrl, parse_turn_url
from signaling.core.ids import ParticipantId

SECRET = "0123456789abcdef0123456789abcdef"
URLS = "turn:hub.lan:3478,turn:hub.lan:3478?transport=tcp,turns:hub.lan:443?transport=tcp"


def make(folder: Path, **changes: str) -> Settings:
    environment = {
        "CONSILIUM_TURN_URLS": URLS,
        "CONSILIUM_TURN_SECRET": SECRET,
        "CONSILIUM_MEDIA_ADDRESSES": "192.0.2.20,2001:db8::20",
        "CONSILIUM_MEDIA_WORKERS": "2",
        "CONSILIUM_TLS_CERT_FILE": str(folder / "hub.crt"),
        "CONSILIUM_TLS_KEY_FILE": str(folder / "hub.key"),
    }
    return load_settings({**environment, **changes}, data_dir=folder)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("turn:hub.lan", TurnUrl(False, "hub.lan", 3478, "udp")),
        ("turn:hub.lan:80?transport=tcp", TurnUrl(False, "hub.lan", 80, "tcp")),
        ("turns:[2001:db8::1]:443", TurnUrl(True, "[2001:db8::1]", 443, "tcp")),
        ("turns:hub.lan?transport=udp", TurnUrl(True, "hub.lan", 5349, "udp")),
    ],
)
def test_turn_addresses(text: str, meant: TurnUrl) -> None:
    assert parse_turn_url(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stun:hub.lan",
        "turn://hub.lan",
        "turn:hub.lan:0",
        "turn:hub.lan:65536",
        "turn:a b",
        "turn:hub.lan?transport=x",
        "turn:user@hub.lan",
        "turn:hub.lan\nno-auth",
    ],
)
def test_what_is_no_turn_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_turn_url(text)


def test_credentials_by_the_draft() -> None:
    """draft-uberti-behave-turn-rest-00 section 2.2: base64(HMAC-SHA1(secret, "expiry:name")), here by openssl."""
    assert make_credentials("north", "p1", 1433895918) == ("1433895918:p1", "UA+BPNyNT5Q3jGlNc6gMdP3IeAo=")


def test_every_participant_has_credentials_that_end(tmp_path: Path) -> None:
    servers = turn_servers(make(tmp_path, CONSILIUM_TURN_LIFETIME_S="600"), lambda: 1_000_000)

    (mine,), (other,) = servers(ParticipantId("p1")), servers(ParticipantId("p2"))

    assert mine.urls == tuple(URLS.split(","))
    assert mine.username == "1600:p1"
    assert mine.credential != other.credential


def test_without_urls_there_are_no_servers_and_no_secret(tmp_path: Path) -> None:
    settings = make(tmp_path, CONSILIUM_TURN_URLS="", CONSILIUM_TURN_SECRET="")
    assert turn_servers(settings, lambda: 0)(ParticipantId("p1")) == ()
    assert not list(tmp_path.iterdir())


def test_a_secret_is_made_once_and_for_nobody_else_to_read(tmp_path: Path) -> None:
    settings = make(tmp_path, CONSILIUM_TURN_SECRET="")
    assert turn_secret(settings) == turn_secret(settings)
    assert (tmp_path / "turn-secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("secret", ["short", SECRET + " x", SECRET + "\nno-auth", SECRET + "é"])
def test_a_secret_that_cannot_be_used_is_said_and_not_shown(tmp_path: Path, secret: str) -> None:
    (tmp_path / "given").write_text(secret)
    settings = make(tmp_path, CONSILIUM_TURN_SECRET="", CONSILIUM_TURN_SECRET_FILE=str(tmp_path / "given"))
    with pytest.raises(StartError) as refused:
        turn_secret(settings)
    assert secret not in str(refused.value)
    assert "letters and digits" in str(refused.value)


def test_the_secret_is_not_in_what_is_printed(tmp_path: Path) -> None:
    assert SECRET not in repr(make(tmp_path))


def test_coturn_reaches_the_media_addresses_only(tmp_path: Path) -> None:
    lines = coturn_configuration(make(tmp_path)).splitlines()

    assert [line for line in lines if "peer" in line and not line.startswith("#")] == [
        "denied-peer-ip=0.0.0.0-255.255.255.255",
        "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "allowed-peer-ip=192.0.2.20",
        "allowed-peer-ip=2001:db8::20",
        "no-multicast-peers",
    ]
    assert {"no-cli", "no-stun", "no-rfc5780", "no-tcp-relay", "use-auth-secret", "no-dtls"} <= set(lines)
    assert "tls-listening-port=443" in lines
    assert "no-udp" not in lines


def test_loopback_is_no_peer_unless_it_is_all_there_is(tmp_path: Path) -> None:
    """Services that trust everybody on their own machine are not for outsiders."""
    lines = coturn_configuration(make(tmp_path, CONSILIUM_MEDIA_ADDRESSES="127.0.0.1,192.0.2.20")).splitlines()
    assert [line for line in lines if line.startswith("allow")] == ["allowed-peer-ip=192.0.2.20"]

    lines = coturn_configuration(make(tmp_path, CONSILIUM_MEDIA_ADDRESSES="127.0.0.1")).splitlines()
    assert [line for line in lines if line.startswith("allow")] == ["allowed-peer-ip=127.0.0.1", "allow-loopback-peers"]


def test_only_what_is_offered_is_listened_on(tmp_path: Path) -> None:
    settings = make(tmp_path, CONSILIUM_TURN_URLS="turns:hub.lan:443")
    lines = coturn_configuration(settings, peers=("10.0.0.5",), listen=("10.0.0.9",)).splitlines()
    assert {"no-udp", "no-tcp", "no-dtls", "listening-ip=10.0.0.9"} <= set(lines)


def test_a_peer_is_allowed_besides_the_announced_addresses(tmp_path: Path) -> None:
    """Browsers ask permissions for the candidates they were told, whatever coturn's own way there is."""
    settings = make(tmp_path, CONSILIUM_MEDIA_ADDRESSES="127.0.0.1,192.0.2.20")
    lines = coturn_configuration(settings, peers=("10.0.0.5", "192.0.2.20")).splitlines()
    allowed = [line for line in lines if line.startswith("allow")]
    assert allowed == ["allowed-peer-ip=192.0.2.20", "allowed-peer-ip=10.0.0.5"]
    with pytest.raises(StartError, match="--peer: hub_lan is not an IP address"):
        coturn_configuration(settings, peers=("hub_lan",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CONSILIUM_TURN_URLS": ""}, "CONSILIUM_TURN_URLS="),
        ({"CONSILIUM_TURN_URLS": "turn:hub.lan:1,turn:hub.lan:2"}, "same port"),
        ({"CONSILIUM_TLS_CERT_FILE": "", "CONSILIUM_TLS_KEY_FILE": ""}, "certificate"),
    ],
)
def test_what_one_coturn_cannot_serve_is_said(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(StartError, match=words):
        coturn_configuration(make(tmp_path, **changes))


def test_the_configuration_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    path = tmp_path / "turnserver.conf"
    path.write_text("old")
    path.chmod(0o644)
    write_configuration(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_firewalls_are_told_protocol_port_and_direction(tmp_path: Path) -> None:
    said = openings(make(tmp_path))
    assert "UDP 8441 to 8442, inward from participants to 192.0.2.20, 2001:db8::20: " in said[1]
    assert said[2].startswith("TCP 8441 to 8442, inward from participants")
    assert said[5].startswith("TLS over TCP 443, inward from participants to hub.lan: TURN")
    assert said[6].startswith("UDP 8441 to 8442, from the TURN server")


def test_a_machine_of_its_own_needs_no_firewall(tmp_path: Path) -> None:
    (said,) = openings(make(tmp_path, CONSILIUM_MEDIA_ADDRESSES="127.0.0.1,::1"))
    assert said.startswith("Nothing")


def test_addresses_of_others_are_known() -> None:
    assert foreign_addresses(["127.0.0.1", "192.0.2.20"]) == ["192.0.2.20"]
