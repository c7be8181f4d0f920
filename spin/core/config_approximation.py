"""Settings of what sampling may leave out; all of it is exact by default."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from spin.core.approximation import Approximation
from spin.core.config_setting import CHOSEN, Section, setting

_Share = Annotated[float, Field(ge=0, le=1)]


def _check_order(interval: tuple[float, float]) -> tuple[float, float] | None:
    """None for the whole way: that is exact, and the same run."""
    if interval[0] >= interval[1]:
        raise ValueError(f"expected [FROM, TO] with FROM below TO; got [{interval[0]:g}, {interval[1]:g}]")
    return None if interval == (0, 1) else interval


class ApproximatedSection(Section):
    """A section whose pictures may be drawn with less than exact sampling takes."""

    guidance_interval: Annotated[tuple[_Share, _Share], Field(strict=False), AfterValidator(_check_order)] | None = (
        setting(
            None,
            "[FROM, TO]: guidance only there on the way from noise, 0, to picture, 1; null for everywhere",
            source=f"{CHOSEN}: exact; arXiv 2404.07724 asks a middle range",
            limits="two numbers of 0 to 1, the first below the second; counted in calls of the network",
        )
    )
    reuse_every: int = setting(
        1,
        "deep features of every so many calls of the network are reused until the next; 1 for none",
        source=f"{CHOSEN}: exact; DeepCache, arXiv 2312.00858, takes 2 to 10",
        ge=1,
        le=1000,
    )

    @property
    def approximation(self) -> Approximation:
        """What is left out, as the rooms are told."""
        return Approximation(self.guidance_interval, self.reuse_every)
