"""The command before anything runs: help without the server, quiet when it is stopped while it still loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from server import __main__ as command


def test_help_imports_no_server() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "server", "--help"], capture_output=True, text=True, check=True
    )
    assert "gateway" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "server.exits" in imported
    assert not {"server.app", "server.commands", "sqlalchemy", "aiohttp", "numpy"} & imported


def test_ctrl_c_while_it_still_loads_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")
