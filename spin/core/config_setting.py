"""How a setting is written down: a pydantic field with its meaning and the source of its default."""

from __future__ import annotations

from typing import Any, Final, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

MEASURED: Final = "measured in the miniature"
CHOSEN: Final = "a choice of this project"
PAPER: Final = "paper (arXiv 2402.10210)"
DPO_CODE: Final = "Diffusion-DPO's public code"


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
