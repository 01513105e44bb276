"""Answers put together from their parts: bounded, checked, several at a time."""

import hashlib
from dataclasses import dataclass

from server.lock.core.wire import PART_BYTES, Answer, AnswerPart, WireError


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeAnswer:
    """``code`` is empty, or why there is no body."""

    id: int
    code: str
    count: int
    next_page: str
    body: bytes


class Answers:
    """What was asked and not answered yet."""

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self._begun: dict[int, tuple[Answer, bytearray]] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def asked(self, id_: int, max_bytes: int) -> None:
        """Expect an answer of at most so many bytes."""
        self._asked[id_] = max_bytes

    def forget(self, id_: int) -> None:
        """Nobody waits for it any more; what still comes of it is left aside."""
        self._asked.pop(id_, None)
        self._begun.pop(id_, None)

    def take(self, frame: Answer | AnswerPart) -> WholeAnswer | None:
        """One frame; the answer when it completes one.

        Raises:
            WireError: larger than was asked for, or parts that do not fit. [LK21]
        """
        limit = self._asked.get(frame.id)
        if limit is None:
            return None  # cancelled while it was under way
        if isinstance(frame, Answer):
            if frame.id in self._begun:
                raise WireError("Answer.id")
            if frame.size > limit or len(frame.body) != min(frame.size, PART_BYTES):
                raise WireError("Answer.size")
            return self._collect(frame, bytearray(frame.body))
        if frame.id not in self._begun:
            raise WireError("AnswerPart.id")
        head, body = self._begun[frame.id]
        if frame.offset != len(body) or len(body) + len(frame.data) > head.size:
            raise WireError("AnswerPart.offset")
        body += frame.data
        return self._collect(head, body)

    def _collect(self, head: Answer, body: bytearray) -> WholeAnswer | None:
        if len(body) < head.size:
            self._begun[head.id] = (head, body)
            return None
        whole = bytes(body)
        if head.size and hashlib.sha256(whole).digest() != head.digest:
            raise WireError("Answer.digest")
        self.forget(head.id)
        return WholeAnswer(id=head.id, code=head.code, count=head.count, next_page=head.next_page, body=whole)


def answer_frames(id_: int, body: bytes, *, count: int, next_page: str) -> list[Answer | AnswerPart]:
    """An answer as it is sent."""
    head = Answer(
        id=id_,
        code="",
        count=count,
        next_page=next_page,
        size=len(body),
        digest=hashlib.sha256(body).digest(),
        body=body[:PART_BYTES],
    )
    rest = range(PART_BYTES, len(body), PART_BYTES)
    return [head, *(AnswerPart(id=id_, offset=at, data=body[at : at + PART_BYTES]) for at in rest)]


def refusal_frame(id_: int, code: str) -> Answer:
    """That there is no answer."""
    return Answer(id=id_, code=code, count=0, next_page="", size=0, digest=b"", body=b"")
