"""A session's Transport: checks that keep consent fresh are a real agent's, whoever builds them."""

from __future__ import annotations

import socket

from aioice import stun

from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.rig.peer import Remote
from load_tests.rig.poller import Poller
from load_tests.session.path import Path
from load_tests.session.transport import SessionPeer


async def test_a_repeated_check_is_a_sound_one_in_another_transaction() -> None:
    poller, ledger = Poller(), Ledger()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(20)
        peer = SessionPeer(poller, "127.0.0.1", Path(Line(), "s", ledger), ledger)
        peer._remote = Remote(far.getsockname(), "theirs", "password of theirs", "")
        peer._socket.connect(far.getsockname())
        peer._check()
        first = stun.parse_message(far.recv(2048))
        peer._first_check = peer._last_check
        peer._check()
        raw = far.recv(2048)
        again = stun.parse_message(raw)  # raises where FINGERPRINT does not hold
        assert again.transaction_id != first.transaction_id
        anew = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, again.transaction_id)
        for name, value in first.attributes.items():
            if name not in ("MESSAGE-INTEGRITY", "FINGERPRINT"):
                anew.attributes[name] = value
        anew.add_message_integrity(b"password of theirs")
        assert bytes(anew) == raw

        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, again.transaction_id)
        peer._stun(bytes(answer))
        answer.add_message_integrity(b"password of another")
        peer._stun(bytes(answer))
        assert not peer._answered.is_set()  # whoever that was, it was not asked
        answer.attributes.clear()
        answer.add_message_integrity(b"password of theirs")
        peer._stun(bytes(answer))
        assert peer._answered.is_set()
        await peer.close()
    await poller.close()
