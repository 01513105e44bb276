"""The private names of aiortc and pylibsrtp that ``media/aio/aiortc_port.py`` leans on.

Both are pinned exactly. When a pin is raised this suite says what moved before a call does.
"""

import ctypes
import hmac
import inspect
import re
from importlib.metadata import version
from pathlib import Path

import pylibsrtp
import pytest
from aiortc import rtcdtlstransport
from pylibsrtp import _binding

import media
from media.aio import aiortc_port


def test_versions_are_the_ones_that_were_read() -> None:
    assert version("aiortc") == "1.16.0"
    assert version("pylibsrtp") == "1.0.0"
    assert version("aioice") == "0.13.0"


@pytest.mark.parametrize(
    "name", ["srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp", "srtp_err_status_ok"]
)
def test_libsrtp_is_reachable(name: str) -> None:
    assert hasattr(_binding.lib, name)


def test_openssls_hmac_is_reachable() -> None:
    """As C calls it: ``media.native.intake`` signs connectivity checks with it."""
    found = aiortc_port.hmac_addresses()
    assert found is not None
    kind = ctypes.CFUNCTYPE(
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t,
        ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint),
    )  # fmt: skip
    out, length = ctypes.create_string_buffer(64), ctypes.c_uint()
    assert kind(found[0])(found[1], b"key", 3, b"message", 7, out, ctypes.byref(length))
    assert out.raw[: length.value] == hmac.digest(b"key", b"message", "sha1")


def test_the_statuses_of_a_replay() -> None:
    """The binding does not name them; pylibsrtp's table of texts has them in libsrtp's order."""
    assert aiortc_port.SRTP_OK == 0
    assert {pylibsrtp.ERRORS[number] for number in aiortc_port.SRTP_REPLAYED} == {
        "replay check failed (bad index)",
        "replay check failed (index too old)",
    }


def test_a_session_gives_its_context() -> None:
    """``Session._srtp[0]`` is a ``srtp_t`` that the in-place functions take, both ways."""
    key = bytes(range(28))
    profile = pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM

    def session(kind: int) -> pylibsrtp.Session:
        return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=kind, srtp_profile=profile))

    sender, receiver = (
        session(pylibsrtp.Policy.SSRC_ANY_OUTBOUND),
        session(pylibsrtp.Policy.SSRC_ANY_INBOUND),
    )
    packet = b"\x80\x60\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07payload"
    buffer = aiortc_port.NativeBuffer(200)
    buffer.data[50 : 50 + len(packet)] = packet
    length = aiortc_port.new_length()
    length[0] = len(packet)

    assert aiortc_port.srtp_protect(sender._srtp[0], buffer.pointer + 50, length) == aiortc_port.SRTP_OK
    assert length[0] == len(packet) + 16
    assert buffer.data[50 : 50 + len(packet)] != packet
    assert aiortc_port.srtp_unprotect(receiver._srtp[0], buffer.pointer + 50, length) == aiortc_port.SRTP_OK
    assert buffer.data[50 : 50 + length[0]] == packet


def test_dtls_takes_a_duck_for_its_ice_transport() -> None:
    """Only ``role``, ``_recv`` and ``_send`` of it are used, and these names of ours exist."""
    source = inspect.getsource(rtcdtlstransport.RTCDtlsTransport)

    assert set(re.findall(r"self\.transport\.(\w+)", source)) == {"role", "_recv", "_send"}
    for name in ("_rx_srtp", "_tx_srtp", "_srtp_profiles", "_ssl", "_task"):
        assert f"self.{name}" in source
    assert callable(rtcdtlstransport.RTCDtlsTransport._set_role)
    assert rtcdtlstransport.SRTP_AEAD_AES_128_GCM.openssl_profile == b"SRTP_AEAD_AES_128_GCM"


def test_the_pump_after_the_handshake_can_be_replaced() -> None:
    """Its loop calls ``_recv_next`` until that raises ConnectionError; then the state is "closed"."""
    source = inspect.getsource(rtcdtlstransport.RTCDtlsTransport)

    assert inspect.iscoroutinefunction(rtcdtlstransport.RTCDtlsTransport._recv_next)
    assert "await self._recv_next()\n        except ConnectionError:" in source
    assert aiortc_port._Dtls._recv_next is not rtcdtlstransport.RTCDtlsTransport._recv_next


@pytest.mark.parametrize("file", ["aio", "core"])
def test_only_one_file_touches_the_private_names(file: str) -> None:
    """Everything else goes through ``aiortc_port``; ``aioice.stun`` is public."""
    for path in (Path(media.__file__).parent / file).rglob("*.py"):
        if path.name != "aiortc_port.py":
            text = path.read_text()
            assert "import aiortc" not in text
            assert "from aiortc" not in text
            assert "pylibsrtp" not in text.replace("``pylibsrtp", "").replace("pylibsrtp's", "")
