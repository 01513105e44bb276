"""From ``gateway.toml`` to what runs inside; each part's own keys are checked by `server.gateway.adapters.settings`."""

from server.exits import Exit, StartError
from server.gateway.adapters.settings import (
    SettingsInvalid,
    build_adapter,
    build_inlet,
    build_profile,
    build_responder,
)
from server.gateway.config import Folder, GatewayConfig
from server.gateway.inside import Inside


def build_inside(config: GatewayConfig, folder: Folder) -> Inside:
    """Adapters, inlets and responder of a configuration.

    Raises:
        StartError: with the key and what is wrong with it.
    """
    try:
        if config.adapter and config.profile is None:
            raise SettingsInvalid("adapters need a [profile]: how this hospital's messages are to be read")
        profile = None if config.profile is None else build_profile(config.profile)
        adapters = [build_adapter(table, profile, folder.path) for table in config.adapter if profile is not None]
        inlets = [build_inlet(table, folder.path) for table in config.inlet]
        responder = None if config.responder is None else build_responder(config.responder, folder.path)
    except SettingsInvalid as problem:
        raise StartError(Exit.SETTINGS, f"{folder.config}: {problem}.") from None
    return Inside(adapters=adapters, inlets=inlets, responder=responder)
