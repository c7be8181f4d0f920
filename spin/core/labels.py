"""What a model is called in tables, plots and on pages."""

from __future__ import annotations


def iteration_label(number: int, *, labelled: bool, iterations: int) -> str:
    """SPIN 2; with labelled losers it is Diffusion-DPO: DPO where there is one iteration, else DPO 2.

    Args:
        number: of the iteration, from 1.
        iterations: how many the run has.
    """
    if not labelled:
        return f"SPIN {number}"
    return "DPO" if iterations == 1 else f"DPO {number}"
