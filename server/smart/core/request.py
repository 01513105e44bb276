"""What an app asks at the authorization endpoint, and what it registers; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from server.smart.core.errors import OAuthCode, OAuthError
from server.smart.core.pkce import is_challenge
from server.smart.core.scopes import Scopes

MAX_URI_CHARS = 500
MAX_STATE_CHARS, MAX_NONCE_CHARS = 1_000, 200
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class App:
    """A registered client, as far as a person's consent is concerned."""

    id: str
    name: str
    redirect_uris: Sequence[str]
    scopes: Scopes


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request that can be shown to the person.

    Args:
        scopes: what may be granted of what was asked for.
    """

    client: str
    redirect_uri: str
    state: str
    scopes: Scopes
    challenge: str
    nonce: str
    launch: str


class RedirectError(OAuthError):
    """A refusal that may be told to the app: its redirect URI is known to be its own."""

    def __init__(self, code: OAuthCode, redirect_uri: str, state: str, issuer: str) -> None:
        super().__init__(code)
        told = {"error": code.value, "state": state[:MAX_STATE_CHARS], "iss": issuer}
        self.location = answer_location(redirect_uri, told)


def read_asked(query: Mapping[str, str], app: App | None, *, issuer: str) -> Asked:
    """Check a request at the authorization endpoint.

    Raises:
        OAuthError: it cannot be sent back, because nobody knows where to.
        RedirectError: it is declined, and the app told.
    """
    redirect_uri, state = query.get("redirect_uri", ""), query.get("state", "")
    if app is None or redirect_uri not in app.redirect_uris:
        raise OAuthError(OAuthCode.INVALID_REQUEST, "client or redirect_uri")

    def refuse(code: OAuthCode) -> RedirectError:
        return RedirectError(code, redirect_uri, state, issuer)

    if query.get("response_type") != "code":
        raise refuse(OAuthCode.UNSUPPORTED_RESPONSE_TYPE)
    if max(len(state) - MAX_STATE_CHARS, len(query.get("nonce", "")) - MAX_NONCE_CHARS) > 0:
        raise refuse(OAuthCode.INVALID_REQUEST)  # cut off, they would not be recognised by who sent them
    if not state or query.get("code_challenge_method") != "S256" or not is_challenge(query.get("code_challenge", "")):
        raise refuse(OAuthCode.INVALID_REQUEST)
    if query.get("aud", "").rstrip("/") != issuer:
        raise refuse(OAuthCode.INVALID_REQUEST)
    scopes = Scopes.parse(query.get("scope", "")).within(app.scopes, roles=("patient", "user"))
    if not scopes.text:
        raise refuse(OAuthCode.INVALID_SCOPE)
    return Asked(
        client=app.id,
        redirect_uri=redirect_uri,
        state=state,
        scopes=scopes,
        challenge=query["code_challenge"],
        nonce=query.get("nonce", ""),
        launch=query.get("launch", "")[:200],
    )


def answer_location(redirect_uri: str, answer: Mapping[str, str]) -> str:
    """The redirect URI with the answer in its query."""
    mark = "&" if urlsplit(redirect_uri).query else "?"
    return redirect_uri + mark + urlencode({name: value for name, value in answer.items() if value})


def check_uri(uri: str) -> str:
    """A redirect or launch URI that may be registered.

    Raises:
        ValueError: not absolute, plain HTTP to another machine, with a fragment, or of a kind a browser would run.
    """
    parts = urlsplit(uri)
    if len(uri) > MAX_URI_CHARS or not uri.isascii() or any(ord(char) <= 32 for char in uri):
        raise ValueError("a URI in ASCII")
    if parts.fragment or not parts.netloc:
        raise ValueError("an absolute URI without a fragment")
    if parts.scheme == "https":
        return uri
    if parts.scheme == "http" and parts.hostname is not None and parts.netloc.partition(":")[0] in _LOCAL[:2]:
        return uri
    raise ValueError("https, or http on this machine")


def origin_of_uri(uri: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"
