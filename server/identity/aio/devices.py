"""Rooms and devices that come without a person, recognised by a secret of their own."""

from sqlalchemy import select

from server.identity.core.principal import AccessRole, DevicePrincipal
from server.identity.core.secret import hash_secret
from server.storage.database import Database
from server.storage.models import DeviceAccount, Hospital


class Devices:
    """Recognise device accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, secret: str) -> DevicePrincipal | None:
        """Whose secret this is, if the account is active."""
        return await self.by_credential(hash_secret(secret))

    async def by_credential(self, credential: str) -> DevicePrincipal | None:
        """The same by the stored hash."""
        query = (
            select(DeviceAccount, Hospital.name.label("hospital"))
            .join(Hospital, Hospital.id == DeviceAccount.hospital_id)
            .where(DeviceAccount.secret_hash == credential, DeviceAccount.active)
        )
        async with self._database.read() as session:
            row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        device: DeviceAccount = row.DeviceAccount
        return DevicePrincipal(
            kind="device",
            subject=device.id,
            access=AccessRole(device.role),
            credential=credential,
            name=device.name,
            hospital_id=device.hospital_id,
            hospital=row.hospital,
            simulated=device.simulated,
        )
