"""Rooms and devices that come without a person, recognised by a secret of their own."""

from sqlalchemy import bindparam, select

from server.identity.core.principal import AccessRole, DevicePrincipal
from server.identity.core.secret import hash_secret
from server.storage.at_once import Prepared
from server.storage.database import Database
from server.storage.models import DeviceAccount, Hospital

_DEVICE = Prepared(
    select(
        DeviceAccount.id, DeviceAccount.role, DeviceAccount.name, DeviceAccount.simulated, DeviceAccount.hospital_id,
        Hospital.name,
    )
    .join(Hospital, Hospital.id == DeviceAccount.hospital_id)
    .where(DeviceAccount.secret_hash == bindparam("credential"), DeviceAccount.active)
)  # fmt: skip


class Devices:
    """Recognise device accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, secret: str) -> DevicePrincipal | None:
        """Whose secret this is, if the account is active."""
        return await self.by_credential(hash_secret(secret))

    async def by_credential(self, credential: str) -> DevicePrincipal | None:
        """The same by the stored hash."""
        rows = await self._database.at_once.read(lambda hand: hand.rows(_DEVICE, credential=credential))
        if not rows:
            return None
        id_, role, name, simulated, hospital_id, hospital = rows[0]
        return DevicePrincipal(
            kind="device",
            subject=id_,
            access=AccessRole(role),
            credential=credential,
            name=name,
            hospital_id=hospital_id,
            hospital=hospital,
            simulated=bool(simulated),
        )
