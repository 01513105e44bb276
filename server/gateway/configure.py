"""From ``gateway.toml`` to what runs inside; each adapter's own keys are checked by its own settings.

Libraries of an adapter are imported only where it is configured: a gateway without DICOM needs no pynetdicom.
"""

from server.gateway.config import Folder, GatewayConfig
from server.gateway.inside import Inside


def build_inside(config: GatewayConfig, folder: Folder) -> Inside:
    """Adapters, inlets and responder of a configuration.

    Raises:
        StartError: an unknown type, or keys that its adapter does not take.
    """
    raise NotImplementedError
