"""What the hub declines: a status and a sentence for the developer of the other program, in plain text (H3)."""


class HubRefusal(Exception):
    """A request was declined; nothing happened.

    Args:
        code: stable; never says whether something the asker may not see exists.
    """

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.sentence = sentence

    @property
    def text(self) -> str:
        """The body of the answer."""
        return f"{self.code}: {self.sentence}\n"


def malformed(sentence: str) -> HubRefusal:
    """The request cannot be read."""
    return HubRefusal(400, "malformed", sentence)


def unknown_topic() -> HubRefusal:
    """No such session, or not for this token: the same answer."""
    return HubRefusal(404, "not_found", "There is no such session for this token.")


def unknown_resource() -> HubRefusal:
    """Not a patient or resource of this session."""
    return HubRefusal(404, "not_found", "There is no such patient or resource in this session.")


def stale() -> HubRefusal:
    """Older than what set the present context (H21)."""
    return HubRefusal(
        409, "context_changed", "The event is older than the one that set the present context. Check the clock."
    )
