"""The request that a pack answers to: reason, purpose, summary, time, wanted speciality and title (C25)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_FACTS = 40

Text = Annotated[str, Field(max_length=4_000)]
Short = Annotated[str, Field(max_length=200)]


class Request(BaseModel):
    """What the inviting doctor writes; every part is required before a pack is sent, except the title (C25)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reason: Text = ""
    purpose: Text = ""
    summary: Text = ""
    speciality: Short = ""
    """Of the wanted expert, in the sender's words."""
    title: Short = ""
    """Of the wanted expert; empty: any."""
    facts: Annotated[dict[Annotated[str, Field(max_length=40)], Short], Field(max_length=MAX_FACTS)] = {}
    """What a table asks for and no record has, by key of the part."""


REQUIRED = ("reason", "purpose", "summary", "speciality")


def lacking(request: Request) -> tuple[str, ...]:
    """Fields that C25 wants and that are empty."""
    return tuple(name for name in REQUIRED if not str(getattr(request, name)).strip())
