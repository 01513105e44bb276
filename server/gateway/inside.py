"""What runs inside the hospital, as the program takes it: adapters, inlets, a responder."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.exits import Exit, StartError
from server.gateway.core.crossing import Adapter, Inlet
from server.gateway.core.responder import Responder
from server.lock.core.wire import OUTCOME_SOURCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """Put together from ``gateway.toml`` by `server.gateway.adapters`."""

    adapters: Sequence[Adapter] = ()
    inlets: Sequence[Inlet] = ()
    responder: Responder | None = None

    def check(self) -> None:
        """Names and kinds are nobody else's.

        Raises:
            StartError: with what to change.
        """
        names = [adapter.name for adapter in self.adapters]
        for name in names:
            if names.count(name) > 1 or name == OUTCOME_SOURCE or not 0 < len(name) <= 64 or not name.isprintable():
                raise StartError(Exit.SETTINGS, f"The adapter name {name!r} is taken or cannot be used.")
        kinds = [kind for inlet in self.inlets for kind in inlet.kinds]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise StartError(Exit.SETTINGS, f"Two inlets take {kind}; one may.")
