"""Files made from the message classes are up to date."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from signaling import typescript
from signaling.core import messages as m
from tests.vectors.signaling import generate

WEB_CLIENT = Path(__file__).parents[3] / "web_client"


def test_schema_is_up_to_date() -> None:
    """Run python -m signaling.typescript after changing a message."""
    assert typescript.main(["--check"]) == 0


def test_a_drifted_schema_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail."""
    drifted = tmp_path / "schema.json"
    drifted.write_text(typescript.render().replace('"take_lead"', '"grab_lead"'), encoding="utf-8")
    monkeypatch.setattr(typescript, "SCHEMA_PATH", drifted)
    assert typescript.main(["--check"]) == 1


def test_typescript_is_up_to_date() -> None:
    """Run node scripts/generate-protocol.mjs after changing the schema."""
    node = shutil.which("node")
    if node is None or not (WEB_CLIENT / "node_modules" / "json-schema-to-typescript").is_dir():
        pytest.skip("node or its modules are not installed (npm ci in web_client)")
    done = subprocess.run(
        [node, "scripts/generate-protocol.mjs", "--check"], cwd=WEB_CLIENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_schema_asks_clients_for_no_more_than_the_server_does() -> None:
    """A field with a default may be left out of a command, and is always there in what the server sends."""
    definitions = typescript.build_schema()["definitions"]
    assert definitions["Produce"]["required"] == ["type", "transport", "kind", "rtp_parameters", "source"]
    assert set(definitions["Consult"]["required"]) == set(definitions["Consult"]["properties"])
    assert definitions["CommandResults"]["properties"]["join"] == {"$ref": "#/definitions/Joined"}
    assert definitions["CommandResults"]["properties"]["leave"] == {"$ref": "#/definitions/Done"}


def test_vectors_are_up_to_date_and_hold_every_event() -> None:
    """Run python -m tests.vectors.signaling.generate after changing a rule."""
    assert generate.main(["--check"]) == 0
    vectors = json.loads(generate.PATH.read_text(encoding="utf-8"))
    seen = {event["type"] for vector in vectors for event in vector["events"]}
    assert seen == {cls.model_fields["type"].default for cls in get_args(get_args(m.AnyEvent)[0])}
