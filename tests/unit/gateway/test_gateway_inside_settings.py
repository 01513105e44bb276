"""`gateway.toml`: the documented one is taken whole; what is wrong is told with its place."""

import re
from pathlib import Path

import pytest

from server.exits import StartError
from server.gateway.adapters.dicom import DicomStore
from server.gateway.adapters.fhir_poll import FhirPoll
from server.gateway.adapters.folder import FolderWatch
from server.gateway.adapters.mllp_server import MllpServer
from server.gateway.adapters.waveform_spool import is_in_memory
from server.gateway.config import Folder, load_config
from server.gateway.configure import build_inside
from server.gateway.inside import Inside

MEMORY = Path("/dev/shm")
DOCUMENT = Path(__file__).parents[3] / "server" / "gateway" / "adapters" / "GATEWAY_INSIDE.md"


def text() -> str:
    match = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    assert match is not None
    found = match[1].replace('tls_ca = "hospital-ca.crt"', "")
    if is_in_memory(MEMORY, Path("/proc/self/mounts").read_text("utf-8")):
        return found.replace("/run/consilium", f"{MEMORY}/consilium-settings")
    return re.sub(r"(?m)^waveforms = .*$", "", found)  # a machine that has no such folder


def built(folder: Path, toml: str) -> Inside:
    (folder / "gateway.toml").write_text(toml, "utf-8")
    for secret in ("fhir-token", "fhir-secret"):
        (folder / secret).write_text("t", "utf-8")
    inside = build_inside(load_config(Folder(folder)), Folder(folder))
    inside.check()
    return inside


def test_the_documented_file_is_taken(tmp_path: Path) -> None:
    inside = built(tmp_path, text())
    assert [type(one) for one in inside.adapters] == [MllpServer, DicomStore, FolderWatch, FhirPoll]
    assert [one.name for one in inside.adapters] == ["his", "carts", "drop", "record"]
    assert [sorted(one.kinds) for one in inside.inlets] == [["MDM^T02", "ORU^R01"]]
    assert inside.responder is not None


def test_nothing_configured_is_nothing_inside(tmp_path: Path) -> None:
    assert built(tmp_path, "") == Inside(adapters=[], inlets=[], responder=None)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('type = "mllp"\nname = "his"', 'type = "smtp"\nname = "his"', "adapter his"),
        ("port = 2575 ", "prot = 2575 ", "port"),
        (
            'host = "10.20.0.5"                         # needed; one address',
            'host = "0.0.0.0" #',
            "one address inside",
        ),
        ('host = "10.20.0.9"', "", "inlet to-his, host"),
        ('hospital = "wuzhen-1"', "", "profile, hospital"),
        ('zone = "Asia/Shanghai"', 'zone = "Asia/Nowhere"', "time zone"),
        ('charset = "GB 18030-2000"                  #', 'charset = "EBCDIC" #', "character set"),
        ('{ HIS = "urn:oid:1.2.156.1",', '{ HIS = "nothing",', "authorities"),
        ('callers = ["ECGCART1", "CT2"]', "callers = []", "callers"),
        ("(?P<patient>", "(?P<nobody>", "patient"),
        ('peers = ["10.20.0.0/24"]', 'peers = ["10.20.0.0/99"]', "peers"),
        ('base = "https://fhir.hospital.local/r4"', 'base = "fhir.hospital.local"', "base"),
        ('token_file = "fhir-token"', 'token_file = "nothing"', "responder"),
        ('name = "drop"', 'name = "his"', "his"),
        ('secret_file = "fhir-secret"', 'secret_file = "nothing"', "adapter record"),
        ('"DocumentReference"]', '"Practitioner"]', "Practitioner"),
        ("[profile] ", "[[adapter]]\n", "need a [profile]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in text()
    with pytest.raises(StartError) as refused:
        built(tmp_path, text().replace(old, new, 1))
    assert told in str(refused.value)


def test_adapters_need_a_profile(tmp_path: Path) -> None:
    folder = '[[adapter]]\ntype = "folder"\nname = "drop"\npath = "x"\n'
    with pytest.raises(StartError, match="profile"):
        built(tmp_path, folder)
