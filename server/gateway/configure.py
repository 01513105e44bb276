"""From ``gateway.toml`` to what runs inside; each adapter's own keys are checked by its own settings.

Libraries of an adapter are imported only where it is configured: a gateway without DICOM needs no pynetdicom.
"""

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
        StartError: an unknown type, or keys that its adapter does not take.
    """
    try:
        if config.adapter and config.profile is None:
            raise SettingsInvalid("[profile] is missing: it says how this hospital's messages are to be read")
        profile = build_profile(config.profile) if config.profile is not None else None
        adapters = [build_adapter(table, profile, folder.path) for table in config.adapter if profile is not None]
        inlets = [build_inlet(table, folder.path) for table in config.inlet]
        responder = build_responder(config.responder, folder.path) if config.responder is not None else None
    except SettingsInvalid as problem:
        raise StartError(Exit.SETTINGS, f"{folder.config}, {problem}.") from None
    inside = Inside(adapters=adapters, inlets=inlets, responder=responder)
    inside.check()
    return inside
