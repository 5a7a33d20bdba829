"""Rules of tutors' profiles: what an application needs. Pure.

```
ConflictError
├── ProfileIncompleteError    something is missing that an application needs
└── ProfileWaitsError         somebody is reading it at this moment
```
"""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from server.errors import ConflictError

# B-05: a sentence is not enough to decide by.
DESCRIPTION_LEAST = 400
TITLE_LEAST = 5

Part = Literal["title", "description", "subjects", "languages", "hourly_rate", "is_adult"]
PARTS: tuple[Part, ...] = get_args(Part)


class Profile(Protocol):
    """What the rules look at."""

    title: str
    description: str
    subjects: list[str]
    languages: list[str]
    hourly_rate: int | None
    is_adult: bool


class ProfileIncompleteError(ConflictError):
    """Something is missing that an application needs."""

    code = "profile_incomplete"

    def __init__(self, missing: Sequence[Part]) -> None:
        super().__init__(f"The profile lacks: {', '.join(missing)}.", missing=list(missing))


class ProfileWaitsError(ConflictError):
    """Somebody is reading it at this moment, and decides about what they read."""

    code = "profile_waits"

    def __init__(self) -> None:
        super().__init__("The profile waits for a decision and cannot be changed until then.")


def missing(profile: Profile) -> tuple[Part, ...]:
    """Return what an application still needs, in the order of the form."""
    is_there: dict[Part, bool] = {
        "title": len(profile.title) >= TITLE_LEAST,
        "description": len(profile.description) >= DESCRIPTION_LEAST,
        "subjects": bool(profile.subjects),
        "languages": bool(profile.languages),
        "hourly_rate": profile.hourly_rate is not None,
        "is_adult": profile.is_adult,
    }
    return tuple(part for part in PARTS if not is_there[part])


def distinct(names: Sequence[str]) -> list[str]:
    """Return names without blanks around them, each once, however it is written."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.strip().casefold(), name.strip())
    return list(found.values())
