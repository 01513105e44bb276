"""The ``consilium`` command: arguments -> settings -> run -> exit code (`exits.py`)."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from cyclopts import App

from server.exits import Exit, StartError
from server.lifecycle import run
from server.log import configure_log
from server.settings import Settings, load_settings

app = App(name="consilium", help="Real-time teleconsultation server.")


@app.command
def serve(*, host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> int:
    """Run the server. Every setting is an environment variable CONSILIUM_...; these three are also options.

    Args:
        host: address to listen on.
        port: TCP port of the web server.
        data_dir: folder of database, keys and anchors.
    """
    return _guarded(lambda: _serve(load_settings(host=host, port=port, data_dir=data_dir)))


@app.command
def demo(*, port: int | None = None, data_dir: Path | None = None) -> int:
    """Run a sample hub on this machine: patients, a simulated room and a simulated bedside monitor.

    Args:
        port: TCP port of the web server; another one is taken, and told, when it is in use.
        data_dir: folder in which the demo keeps everything.
    """
    # Only the demo needs codecs, pictures and pydicom.
    from server.demo.run import demo as run_demo

    return _guarded(lambda: run_demo(port=port, data_dir=data_dir))


def _serve(settings: Settings) -> int:
    configure_log(json=settings.log_json)
    asyncio.run(run(settings))
    return Exit.OK


def _guarded(action: Callable[[], int]) -> int:
    """Run a command; what stands in its way becomes one sentence and a code, not a traceback."""
    try:
        return action()
    except StartError as problem:
        print(f"consilium: {problem}", file=sys.stderr)
        return problem.exit_code


def main() -> None:
    """Entry point."""
    sys.exit(app())


if __name__ == "__main__":
    main()
