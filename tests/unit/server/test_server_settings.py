"""Settings: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from media.aio.spare import Loader
from media.aio.worker import parse_arguments
from server.app import media_bind, worker_settings
from server.exits import Exit
from server.settings import SettingsError, load_settings


def test_the_defaults_serve_this_machine_only() -> None:
    settings = load_settings({})
    assert settings.host == "127.0.0.1"
    assert settings.origins == {"http://localhost:8440", "http://127.0.0.1:8440", "http://[::1]:8440"}
    assert settings.main_origin == "http://localhost:8440"
    assert settings.database.startswith("sqlite:////")


def test_lists_are_separated_by_commas() -> None:
    settings = load_settings(
        {
            "CONSILIUM_PUBLIC_ORIGINS": "https://hub.hospital.cn, https://hub.lan:8443",
            "CONSILIUM_MEDIA_ADDRESSES": "192.168.1.20,2001:db8::1",
        }
    )
    assert settings.origins == {"https://hub.hospital.cn", "https://hub.lan:8443"}
    assert settings.main_origin == "https://hub.hospital.cn"
    assert settings.media_addresses == ("192.168.1.20", "2001:db8::1")


def test_ipv6_addresses_may_have_brackets() -> None:
    settings = load_settings({"CONSILIUM_MEDIA_ADDRESSES": "[2001:db8::1]", "CONSILIUM_MEDIA_BIND": "[::]"})
    assert settings.media_addresses == ("2001:db8::1",)
    assert settings.media_bind == "::"


@pytest.mark.parametrize(
    ("addresses", "bind"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("127.0.0.1,::1", "::"),
        ("192.168.1.20", "0.0.0.0"),
        ("127.0.0.1,192.168.1.20", "0.0.0.0"),
        ("2001:db8::1", "::"),
        ("192.168.1.20,2001:db8::1", "::"),
    ],
)
def test_media_ports_listen_where_the_announced_addresses_can_be_reached(addresses: str, bind: str) -> None:
    assert media_bind(load_settings({"CONSILIUM_MEDIA_ADDRESSES": addresses})) == bind


def test_a_single_address_of_this_machine_is_bound_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound to all, the kernel may answer from another address, which browsers drop."""
    monkeypatch.setattr("server.app.is_local", lambda address: False)  # 127.0.0.2 stands for a network card's
    assert media_bind(load_settings({"CONSILIUM_MEDIA_ADDRESSES": "127.0.0.2"})) == "127.0.0.2"


def test_the_bound_address_may_be_another_than_the_announced() -> None:
    """Behind NAT: browsers are told the public address."""
    settings = load_settings({"CONSILIUM_MEDIA_ADDRESSES": "203.0.113.5", "CONSILIUM_MEDIA_BIND": "10.0.0.5"})
    assert worker_settings(settings).bind == "10.0.0.5"
    assert worker_settings(settings).addresses == ("203.0.113.5",)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (3, 3), (8, 8), (64, 8)])
def test_a_media_worker_for_each_core_this_process_may_use(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each core of the machine: a container has fewer. And no surprise of 64 ports."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(cores)))
    assert load_settings({}).media_workers == workers
    assert load_settings({"CONSILIUM_MEDIA_WORKERS": "16"}).media_workers == 16


@pytest.mark.parametrize("path", ["auto", "c", "python"])
def test_how_packets_are_sent_on_reaches_the_worker(path: str) -> None:
    settings = worker_settings(load_settings({"CONSILIUM_FORWARD": path}))
    command = Loader(settings)._command(Path("control"), Path("pipe"))
    assert parse_arguments(command[3:]).forward == path


@pytest.mark.parametrize("first", [True, False])
def test_workers_go_first_unless_told_otherwise(first: bool) -> None:
    settings = worker_settings(load_settings({} if first else {"CONSILIUM_MEDIA_FIRST": "0"}))
    assert parse_arguments(Loader(settings)._command(Path("control"), Path("pipe"))[3:]).first is first


def test_options_win_over_the_environment() -> None:
    assert load_settings({"CONSILIUM_PORT": "9000"}, port=9001, host=None).port == 9001


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CONSILIUM_HOST": "0.0.0.0"}, "consilium ca"),
        ({"CONSILIUM_HOST": "hub.lan"}, "needs TLS"),
        ({"CONSILIUM_PORT": "http"}, "CONSILIUM_PORT"),
        ({"CONSILIUM_PORT": "70000"}, "CONSILIUM_PORT"),
        ({"CONSILIUM_PUBLIC_ORIGINS": "http://hub.lan"}, "https"),
        ({"CONSILIUM_PUBLIC_ORIGINS": "https://hub.lan/path"}, "not an origin"),
        ({"CONSILIUM_PUBLIC_ORIGINS": "*"}, "not an origin"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "hub.lan"}, "not an IP address"),
        ({"CONSILIUM_MEDIA_ADDRESSES": ","}, "at least one"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "192.168.1.20,0.0.0.0"}, "CONSILIUM_MEDIA_ADDRESSES: 0.0.0.0 stands for all"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "[::]"}, "stands for all addresses"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "::ffff:0.0.0.0"}, "stands for all addresses"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "239.1.2.3"}, "is a group of machines"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "ff02::1"}, "is a group of machines"),
        ({"CONSILIUM_MEDIA_ADDRESSES": "255.255.255.255"}, "is a group of machines"),
        ({"CONSILIUM_MEDIA_BIND": "hub.lan"}, "not an IP address"),
        ({"CONSILIUM_FORWARD": "rust"}, "CONSILIUM_FORWARD"),
        ({"CONSILIUM_MEDIA_PROTOCOLS": "tcp,sctp"}, "udp, tcp or both"),
        ({"CONSILIUM_MEDIA_PROTOCOLS": ","}, "udp, tcp or both"),
        ({"CONSILIUM_TURN_URLS": "https://turn.hospital.cn"}, "not a TURN address"),
        ({"CONSILIUM_TURN_LIFETIME_S": "1"}, "CONSILIUM_TURN_LIFETIME_S"),
        ({"CONSILIUM_TLS_CERT_FILE": "/x.crt"}, "belong together"),
        ({"CONSILIUM_DATABASE_URL": "mysql://root:geheim@db/x"}, "sqlite or postgresql"),
        ({"CONSILIUM_DATABASE_URL": "geheim"}, "not a database URL"),
        ({"CONSILIUM_SESSION_IDLE_S": "1"}, "CONSILIUM_SESSION_IDLE_S"),
        ({"CONSILIUM_SESION_IDLE_S": "600"}, "CONSILIUM_SESION_IDLE_S is not a setting"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment)
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is Exit.SETTINGS


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings({}).port = 1


def test_the_local_authoritys_certificate_is_found_by_itself(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "server.crt").touch()
    settings = load_settings({"CONSILIUM_HOST": "0.0.0.0"}, data_dir=tmp_path)
    assert settings.secure
    assert settings.tls_key_file == tmp_path / "tls" / "server.key"
    assert not load_settings({}, data_dir=tmp_path).secure, "localhost needs none"
