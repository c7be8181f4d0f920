from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from spin.core.errors import ConfigError
from spin.diffusion.attention import attending, refuse_missing_kernel
from tests.kernels import FLASH, heard


def attend() -> torch.Tensor:
    query = torch.randn(1, 2, 16, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    found.sum().backward()
    return found.detach()


@pytest.mark.parametrize(("name", "flash"), [("auto", True), ("flash", True), ("math", False)])
def test_a_kernel_is_used_by_its_name_forward_and_backward(name: str, flash: bool) -> None:
    with attending(name, device="cpu", dtype="float32"), heard() as names:
        attend()
    assert [FLASH in names, f"{FLASH}_backward" in names, "bmm" in names] == [flash, flash, not flash]


def test_afterwards_torch_chooses_again() -> None:
    with attending("math", device="cpu", dtype="float32"):
        found = attend()
    with heard() as names:
        torch.testing.assert_close(attend(), found, atol=1e-6, rtol=0)
    assert FLASH in names


@pytest.mark.parametrize(
    ("name", "device", "dtype", "problem"),
    [
        ("efficient", "cpu", "float32", "a CPU has no efficient kernel; set it to auto, flash or math"),
        ("cudnn", "cpu", "bfloat16", "a CPU has no cudnn kernel"),
        ("flash", "cuda", "float32", "the flash kernel is of half precision, execution.dtype is float32"),
        ("cudnn", "cuda", "float32", "set it to auto, efficient or math, or execution.dtype to bfloat16"),
        ("flash", "cpu", "float32", None),
        ("math", "cpu", "bfloat16", None),
        ("efficient", "cuda", "float32", None),
        ("flash", "cuda", "bfloat16", None),
        ("cudnn", "cuda", "float16", None),
        ("auto", "cpu", "float32", None),
    ],
)
def test_what_a_device_or_a_precision_lacks_is_one_clear_line(
    name: str, device: str, dtype: str, problem: str | None
) -> None:
    if problem is None:
        refuse_missing_kernel(name, device=device, dtype=dtype)
        return
    with pytest.raises(ConfigError, match=r"^execution\.attention: ") as caught:
        refuse_missing_kernel(name, device=device, dtype=dtype)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_only_the_kernel_knows_is_told_at_the_first_attention() -> None:
    """Here a device that is none: for torch these tensors have no such kernel, as a card that is too old."""
    line = (
        r"^execution\.attention: the efficient kernel cannot do this model's attention on this cuda device in bfloat16"
    )
    with pytest.raises(ConfigError, match=line) as caught, attending("efficient", device="cuda", dtype="bfloat16"):
        attend()
    assert "\n" not in str(caught.value)


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="something else"), attending("math", device="cpu", dtype="float32"):
        raise RuntimeError("something else")


def test_refusing_needs_no_torch() -> None:
    code = (
        "import sys; from spin.diffusion.attention import refuse_missing_kernel as refuse;"
        "refuse('flash', device='cpu', dtype='float32'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
