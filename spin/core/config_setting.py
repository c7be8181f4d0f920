"""How a setting is written down: a pydantic field with its meaning and the source of its default."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

MEASURED: Final = "measured in the miniature"
CHOSEN: Final = "a choice of this project"
PAPER: Final = "paper (arXiv 2402.10210)"
DPO_CODE: Final = "Diffusion-DPO's public code"

MANY: Final = 1_000_000  # a size beyond this is a slip of the hand
FOREVER: Final = 1_000_000_000  # the same for steps and rows
LIST: Final[Any] = Field(strict=False, min_length=1)  # YAML gives a list, frozen models keep a tuple
Name = Annotated[str, Field(min_length=1, max_length=4096)]


class Ranges(TypedDict, total=False):
    """Limits of a number."""

    ge: float
    gt: float
    le: float
    lt: float
    multiple_of: float


def setting(default: object, meaning: str, *, source: str, limits: str | None = None, **ranges: Unpack[Ranges]) -> Any:  # noqa: ANN401  it stands for a value of the field's own type
    """A pydantic field that carries its meaning and the source of its default."""
    extra: JsonDict = {"source": source}
    if limits is not None:
        extra["limits"] = limits
    return Field(default=default, description=meaning, json_schema_extra=extra, **ranges)


class Section(BaseModel):
    """Strict: a string is never a number, a bool never an int; an int where a float is wanted is fine."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def shape(value: object) -> str:
    """Which branch of a value that may be one or many."""
    return "list" if isinstance(value, list | tuple) else "scalar"
