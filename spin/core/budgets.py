"""What an arm of a comparison spends, counted before it starts, and how many steps its budget allows.

Two measures. Training images: rows of the real data that training reads; a pair is one. Device time: the unit is one
supervised training image, a pair and a sampled image cost what the recipe's rates say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spin.core.approximation import rows_asked
from spin.core.config import Config
from spin.core.counted import network_calls
from spin.core.errors import ConfigError
from spin.core.recipe import Rates

_TOLERANCE: Final = 0.01  # of the budget; a step of the miniature is 0.1 to 0.3 %
_SOLVER_CALLS: Final = 20  # of the network, to which the rate of a sampled image belongs
_MOST_STEPS: Final = 1 << 26
_UNITS: Final = {"images": "training images", "time": "supervised images of device time"}


@dataclass(frozen=True)
class Spent:
    """What a run reads, draws and costs."""

    images: int  # rows that training reads, a pair being one
    sampled: int  # images that the opponents draw
    time: float  # in supervised training images

    def by(self, measure: str) -> float:
        return float(self.images) if measure == "images" else self.time


def spent(config: Config, rates: Rates, *, rows: int | None) -> Spent:
    """Count a run.

    Args:
        rates: device time of a pair and of an image sampled in 20 steps without guidance, in supervised images.
        rows: of the train split; an iteration never samples more images than rows x draws. None: not known, an image
            is counted for each reading.

    Returns:
        Spent. 100 steps of 32 pairs on 384 rows at rates 2 and 6: 3200 images, 384 sampled, 6400 + 2304 = 8704.
    """
    sft, train, sampling = config.sft, config.train, config.sampling
    images, sampled = sft.steps * sft.batch_size, 0
    time = images * (rates.lora_image if sft.lora_rank else 1.0)
    pair = (rates.lora_pair or rates.pair) if train.lora_rank else rates.pair
    # What reused features save is the model's and not known here: such an image counts as an exact one.
    asked = network_calls(sampling.scheduler, sampling.num_inference_steps)
    calls = sampling.approximation.calls(asked, guided=sampling.guidance_scale > 1)
    drawn = rows_asked(calls) / _SOLVER_CALLS
    for number in range(1, config.iterations + 1):
        pairs = train.at(number).steps * train.batch_size
        wanted = sampled_images(config, pairs, rows)
        images, sampled = images + pairs, sampled + wanted
        time += pairs * train.timesteps_per_pair * pair + wanted * drawn * rates.sampled_image
    return Spent(images, sampled, time)


def sampled_images(config: Config, pairs: int, rows: int | None) -> int:
    """Images that the opponent draws for an iteration of `pairs` readings."""
    if config.train.losers == "labelled":
        return 0
    if rows is None:
        return pairs
    everything = min(rows, config.data.rows or rows) * config.sampling.draws
    return everything if config.sampling.rows == "all" else min(pairs, everything)


def solved_steps(config: Config, rates: Rates, *, rows: int | None, by: str, budget: float, arm: str) -> int:
    """The most steps that the budget allows: of supervised training, or alike of every iteration.

    Args:
        by: images or time.
        budget: in the unit of `Spent.by`.
    """
    low, high = 0, 1
    while _cost(config, high, rates, rows, by) <= budget and high < _MOST_STEPS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _cost(config, middle, rates, rows, by) <= budget else (low, middle)
    if low == 0:
        least = _cost(config, 1, rates, rows, by)
        what = "one step an iteration" if config.iterations else "one step"
        raise ConfigError(
            f"arm {arm!r} spends {least:,.0f} {_UNITS[by]} with {what}; its budget is {budget:,.0f}",
            fix="give it a larger factor, fewer iterations or a shorter supervised start",
        )
    return low


def check_equal(
    config: Config, rates: Rates, *, rows: int | None, by: str, budget: float, arm: str, measure: str
) -> None:
    """Refuse an arm that sets its own steps and misses its budget without saying so."""
    own = spent(config, rates, rows=rows).by(by)
    one_step = _cost(config, 2, rates, rows, by) - _cost(config, 1, rates, rows, by)
    if abs(own - budget) <= max(_TOLERANCE * budget, one_step):
        return
    raise ConfigError(
        f"unequal budgets: arm {arm!r} spends {own:,.0f} {_UNITS[by]}, its budget against {measure!r} is {budget:,.0f}",
        fix="leave its steps out and they are solved, or say budget: {by: free, why: ...}",
    )


def _cost(config: Config, steps: int, rates: Rates, rows: int | None, by: str) -> float:
    return spent(_with_steps(config, steps), rates, rows=rows).by(by)


def steps_key(config: Config) -> str:
    """The setting that a budget solves: steps of every iteration, or of supervised training where there are none."""
    return "train.steps" if config.iterations else "sft.steps"


def _with_steps(config: Config, steps: int) -> Config:
    if config.iterations:
        return config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    return config.model_copy(update={"sft": config.sft.model_copy(update={"steps": steps})})
