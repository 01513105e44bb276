"""Refusals of the authorization server: OAuth's codes (RFC 6749 section 5.2), which say little on purpose."""

from enum import StrEnum


class OAuthCode(StrEnum):
    """Codes of RFC 6749 and RFC 7009; they never change meaning."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    INVALID_SCOPE = "invalid_scope"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
    ACCESS_DENIED = "access_denied"


class OAuthError(Exception):
    """A request to the authorization server was declined; ``detail`` is for the log only."""

    def __init__(self, code: OAuthCode, detail: str = "") -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code = code
        self.detail = detail

    @property
    def status(self) -> int:
        """HTTP status."""
        return 401 if self.code is OAuthCode.INVALID_CLIENT else 400
