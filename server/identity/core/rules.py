"""Rules of identity that are only arithmetic and text: lifetimes, passwords, pairing codes, throttling."""

from dataclasses import dataclass

CONSULT_TOKEN_MS = 60_000
INVITE_MS = 15 * 60_000
PAIRING_MS = 5 * 60_000
IDENTIFY_MS = 10_000
SCREEN_ONLINE_MS = 20_000
"""A wall asks at least every 10 s; two missed questions and it is offline."""

TOUCH_MS = 30_000
"""``last_seen_ms`` is written at most this often: reading must not cost a write each time."""

PASSWORD_MIN, PASSWORD_MAX = 10, 128
CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""No 0 O 1 I. 32 letters, so five bits choose one without bias."""
CODE_LETTERS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionLimits:
    """How long a signed-in browser lasts."""

    idle_ms: int
    length_ms: int


def session_alive(*, now_ms: int, last_seen_ms: int, expires_at_ms: int, revoked: bool, idle_ms: int) -> bool:
    """Whether a session may still be used (G3, C34): not revoked, not too old, not idle for too long."""
    return not revoked and now_ms < expires_at_ms and now_ms - last_seen_ms < idle_ms


def password_problem(password: str, login: str) -> str | None:
    """Why a new password is not accepted, or None. Length over character classes (NIST SP 800-63B 3.1.1)."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        return f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters"
    if login and login.lower() in password.lower():
        return "a password does not contain the login"
    if len(set(password)) < 4:
        return "a password has at least four different characters"
    return None


def pairing_code(random: bytes) -> str:
    """Six letters from four or more random bytes."""
    assert len(random) >= 4, "30 bits are needed"
    value = int.from_bytes(random[:4], "big")
    return "".join(CODE_ALPHABET[(value >> (5 * place)) & 31] for place in range(CODE_LETTERS))


def read_code(typed: str) -> str | None:
    """A code as a person typed it: any case, spaces and dashes ignored; None when it cannot be one."""
    code = typed.upper().replace(" ", "").replace("-", "")
    return code if len(code) == CODE_LETTERS and all(letter in CODE_ALPHABET for letter in code) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Throttle:
    """At most ``attempts`` in any ``window_s`` seconds."""

    name: str
    attempts: int
    window_s: int


LOGIN_AND_ADDRESS = Throttle(name="login+address", attempts=5, window_s=300)
"""Somebody who guesses one account. Cleared by a success."""
LOGIN_ADDRESS = Throttle(name="address", attempts=60, window_s=300)
"""Somebody who tries many accounts; wide, because a hospital may sit behind one address. Counts failures only."""
LOGIN_ONLY = Throttle(name="login", attempts=30, window_s=900)
"""Many machines on one account. Counts failures only; wide, so that nobody is locked out by a colleague's typing."""
LOGIN_NOTED = Throttle(name="noted", attempts=1, window_s=60)
"""How often the audit trail notes that an address is being throttled: a flood must not become a flood of rows."""
LOGINS_AT_ONCE = 16
"""Passwords of one address being checked at one time: failures are counted too late for attempts sent all at once."""
TOKEN = Throttle(name="token", attempts=60, window_s=60)
"""Per session: a page takes one token per connect, and each is a row of the audit trail."""
PAIRING = Throttle(name="pairing", attempts=30, window_s=300)
CLAIM = Throttle(name="claim", attempts=20, window_s=300)
REDEEM = Throttle(name="redeem", attempts=20, window_s=300)
NETTEST = Throttle(name="nettest", attempts=12, window_s=300)
"""Per session: each is a Router of its own for two minutes."""
WAVEFORM_UPLOAD = Throttle(name="waveform_upload", attempts=20, window_s=300)
"""Each may cost seconds of a core in a process of its own."""
WAVEFORM_EXPORT = Throttle(name="waveform_export", attempts=30, window_s=300)
"""Likewise: hours of samples are read and packed again."""
WAVEFORM_BEATS = Throttle(name="waveform_beats", attempts=120, window_s=60)
"""Computed beside the live heart rates, which must not wait for it."""
WHIP = Throttle(name="whip", attempts=60, window_s=60)
"""Offers from one address; an encoder that begins anew does so every few seconds at most."""
SMART = Throttle(name="smart", attempts=240, window_s=60)
"""Per address, at the endpoints where programs prove who they are: a hospital's apps come from one address."""
