"""What a config calls its prompts, and what their evaluation is called."""

from __future__ import annotations

import pytest

from spin.core.benchmarks import benchmark_name


@pytest.mark.parametrize(
    ("configured", "name"),
    [
        ("test", "test"),
        ("partiprompts", "partiprompts"),
        ("partiprompts=/copies/parti-prompts", "partiprompts"),
        ("hpsv2=copies/hps=2.json", "hpsv2"),
        ("mine-0123456789abcdef", "mine"),
        ("/p/mine.txt", "mine"),
        ("mine-0123456789abcdef.txt", "mine-0123456789abcdef"),
        ("s3://bucket/My prompts (v2).csv?token=x", "My-prompts-v2"),
        ("seed=1.txt", "seed-1"),
        ("hpsv2.txt", "own-hpsv2"),
        ("/p/validation.txt", "own-validation"),  # else it would stand as the rows held out of the data
    ],
)
def test_a_benchmark_has_one_name_however_it_is_configured(configured: str, name: str) -> None:
    assert benchmark_name(configured) == name
