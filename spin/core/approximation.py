"""What may be left out of exact sampling, and what that makes of each call of the network; no torch.

Two approximations, both off by default: guidance in a limited interval (arXiv 2404.07724), and deep features that are
reused in neighbouring calls (DeepCache, arXiv 2312.00858). Fewer steps are a third one, and a setting of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Call:
    """One call of the network on the way from noise to picture."""

    guided: bool  # with both halves; else the conditional one alone
    deep: bool  # its deep blocks run; else what they last gave is taken


@dataclass(frozen=True)
class Approximation:
    """What is left out; the default leaves out nothing.

    Args:
        guidance_interval: where on the way from noise (0) to picture (1) guidance is asked, None: everywhere. The
            way is counted in calls of the network, call i of n from 0 is at (i + 1/2) / n, so that it means the same
            for diffusions and flows, and can be counted without the model. (The paper gives noise levels.)
        reuse_every: in every so many calls the deep blocks run, and between them their last answer is reused.
    """

    guidance_interval: tuple[float, float] | None = None
    reuse_every: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        """What is on, as JSON, by the config's names; empty where sampling is exact. Part of identities."""
        interval = {} if self.guidance_interval is None else {"guidance_interval": list(self.guidance_interval)}
        return {**interval, **({"reuse_every": self.reuse_every} if self.reuse_every > 1 else {})}

    def calls(self, count: int, *, guided: bool) -> tuple[Call, ...]:
        """The network's calls in their order.

        What is remembered has one batch shape: where guidance begins or ends, the deep blocks run anew.

        Args:
            count: of the solver's timesteps; some solvers ask more than once a step.
            guided: whether there is any guidance.

        Returns:
            A tuple of `count`. Of 10 with guidance in 0.2 to 0.7 numbers 2 to 6 are guided; with `reuse_every` 3 the
            deep blocks then run in 0, 2, 5, 7.
        """
        found: list[Call] = []
        since = 0  # calls since the deep blocks ran
        for number in range(count):
            here = guided and self._asks_guidance((number + 0.5) / count)
            deep = not found or since == self.reuse_every or here != found[-1].guided
            since = 1 if deep else since + 1
            found.append(Call(here, deep))
        return tuple(found)

    def _asks_guidance(self, place: float) -> bool:
        if self.guidance_interval is None:
            return True
        low, high = self.guidance_interval
        return low <= place < high

    def __str__(self) -> str:
        """In words; empty where sampling is exact."""
        words = []
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            words.append(f"guidance from {low:g} to {high:g} of the way from noise to picture")
        if self.reuse_every > 1:
            words.append(f"deep features of every {_ordinal(self.reuse_every)} call reused")
        return ", ".join(words)


EXACT: Final = Approximation()


def rows_asked(calls: tuple[Call, ...]) -> int:
    """How often the network is asked for one picture, each half of a guided call counted."""
    return sum(1 + call.guided for call in calls)


def _ordinal(number: int) -> str:
    special = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else special.get(number % 10, 'th')}"
