"""Pictures and traces of the open patient: drawn for who may read it, now, and for nobody else."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from server_hub import Hub
from test_server_api import code, open_patient

from server.demo import scans
from server.imaging.find import DICOM, binary_id
from server.lock.aio.parts import FOLDER, vault_of
from server.record.aio.store import banner_in, put_resource
from server.storage.lock_tables import GatewayRow, LockFile
from signaling.core.model import PatientBanner

TAKEN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def study(patient: str, instance: str) -> dict[str, Any]:
    series = {
        "uid": "1.2.3",
        "modality": {"code": "CT"},
        "instance": [{"uid": instance, "sopClass": {"code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}}],
    }
    return {
        "resourceType": "ImagingStudy",
        "id": f"study-{patient}",
        "status": "available",
        "subject": {"reference": f"Patient/{patient}"},
        "series": [series],
    }


def binary(patient: str, instance: str, data: bytes) -> dict[str, Any]:
    return {
        "resourceType": "Binary",
        "id": binary_id(instance),
        "contentType": DICOM,
        "securityContext": {"reference": f"Patient/{patient}"},
        "data": base64.b64encode(data).decode(),
    }


async def banner(hub: Hub, patient: str) -> PatientBanner:
    async with hub.services.database.read() as session:
        found = await banner_in(session, patient)
    assert found is not None
    return found


async def put(hub: Hub, *resources: dict[str, Any]) -> None:
    async with hub.services.database.write() as session:
        for resource in resources:
            await put_resource(session, resource, actor="test", at_ms=1)


async def test_a_picture_is_drawn_for_the_open_patient_only(hub: Hub) -> None:
    """[W19] The study must be the open patient's and name the instance; the bytes must be filed under that patient."""
    browser, key = await hub.doctor(), "ct"
    instance = scans.uid(key, 0)
    data = scans.ct_slice(await banner(hub, "pt1"), key, 0, TAKEN)
    await put(hub, study("pt1", instance), study("pt2", instance), binary("pt1", instance, data))
    await put(hub, binary("pt1", "1.2.3.4", data))  # no study names it
    version = await open_patient(hub, "pt1")
    path = f"/api/consults/c1/record/ImagingStudy/study-pt1/{instance}"

    async with browser.http.get(f"{path}?version={version}&window=lung", headers={"Origin": hub.origin}) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")
        assert answer.headers["X-Context-Version"] == str(version)
        told = json.loads(answer.headers["X-Picture"])
        assert (told["window"], told["centre"], told["spacing_mm"]) == ("lung", -600.0, [2.4, 2.4])
        assert (await answer.read()).startswith(b"\x89PNG")

    for wrong, status in (
        (f"{path}?version={version}&frame=7", 404),
        (f"{path}?version={version}&window=x", 400),
        (f"{path}?version={version}&frame=x", 400),
        (f"{path}?version={version + 1}", 409),
        (f"/api/consults/c1/record/ImagingStudy/study-pt2/{instance}?version={version}", 404),
        (f"/api/consults/c1/record/ImagingStudy/study-pt1/1.2.3.4?version={version}", 404),
    ):
        assert (await browser.get(wrong))[0] == status, wrong

    # [W22] A file that says itself that it is somebody else's, and one that is another picture than its id says.
    foreign = scans.ct_slice(await banner(hub, "pt2"), "other", 0, TAKEN)
    await put(hub, study("pt1", scans.uid("other", 0)), binary("pt1", scans.uid("other", 0), foreign))
    status, answer = await browser.get(
        f"/api/consults/c1/record/ImagingStudy/study-pt1/{scans.uid('other', 0)}?version={version}"
    )
    assert (status, code(answer)) == (409, "patient_differs")
    await put(hub, study("pt1", "1.2.5"), binary("pt1", "1.2.5", data))
    status, answer = await browser.get(f"/api/consults/c1/record/ImagingStudy/study-pt1/1.2.5?version={version}")
    assert (status, code(answer)) == (422, "picture_unreadable")
    await put(hub, study("pt1", instance))

    later = await open_patient(hub, "pt2")
    assert (await browser.get(f"{path}?version={version}"))[0] == 409
    for other in ("study-pt1", "study-pt2"):  # the second names the instance, but its bytes are not that patient's
        status, answer = await browser.get(f"/api/consults/c1/record/ImagingStudy/{other}/{instance}?version={later}")
        assert (status, code(answer)) == (404, "not_found")


async def test_an_image_that_came_through_the_lock_is_shown_and_a_changed_file_is_not(hub: Hub) -> None:
    """As an earlier version kept it, and sealed; one whose key is away is said to be there."""
    browser, key = await hub.doctor(), "xray"
    instance = scans.uid(key, 1)
    data = scans.radiograph(await banner(hub, "pt1"), key, 1, TAKEN)
    digest = hashlib.sha256(data).hexdigest()
    file = hub.services.settings.data_dir / FOLDER / digest[:2] / digest
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    await put(hub, study("pt1", instance))
    async with hub.services.database.write() as session:
        keys = {"public_key": b"k" * 32, "mark": b"m" * 32, "outbox_mark": b"m" * 32}
        session.add(GatewayRow(id="g1", hospital_id="hub", name="Gateway", enrolled_at_ms=1, **keys))
        await session.flush()
        session.add(
            LockFile(
                id="lf1", gateway_id="g1", stream="s", sequence=1, patient_id="pt1", kind="DICOM image",
                media_type=DICOM, about=json.dumps([["instance", instance]]), sha256=digest, size_bytes=len(data),
                made_us=0, at_ms=1,
            )
        )  # fmt: skip
    version = await open_patient(hub, "pt1")
    path = f"/api/consults/c1/record/ImagingStudy/study-pt1/{instance}?version={version}"
    async with browser.http.get(path, headers={"Origin": hub.origin}) as answer:
        assert answer.status == 200
        assert json.loads(answer.headers["X-Picture"])["at_detector"] is True
    file.write_bytes(data[:-2] + b"\xff\x0f")
    assert (await browser.get(path))[0] == 404
    vault = vault_of(hub.services.settings)
    await vault.open(hub.services.database)
    vault.keep(data)
    async with browser.http.get(path, headers={"Origin": hub.origin}) as answer:
        assert answer.status == 200
    sealed = vault.path(digest)
    content = sealed.read_bytes()
    sealed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (await browser.get(path))[0] == 404
    sealed.write_bytes(content.replace(vault.newest.encode(), b"deadbeef", 1))
    status, answer = await browser.get(path)
    assert (status, code(answer)) == (422, "picture_unreadable")


@pytest.mark.parametrize("damaged", [b"x" * 128 + b"DICMxxxx"])
async def test_a_file_that_cannot_be_drawn_is_said_to_be_there(hub: Hub, damaged: bytes) -> None:
    browser = await hub.doctor()
    await put(hub, study("pt1", "1.2.9"), binary("pt1", "1.2.9", damaged))
    version = await open_patient(hub, "pt1")
    status, answer = await browser.get(f"/api/consults/c1/record/ImagingStudy/study-pt1/1.2.9?version={version}")
    assert (status, code(answer)) == (422, "picture_unreadable")
