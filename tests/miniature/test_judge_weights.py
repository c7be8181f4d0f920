from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spin.miniature import judge_weights
from spin.miniature.judge_weights import judges_digest, judges_folder


def test_the_digest_is_that_of_the_weights_of_both_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(path.name for path in judges_folder().glob("*.safetensors"))
    assert names == ["aesthetic.safetensors", "alignment.safetensors"]
    for name in names:
        (tmp_path / name).write_bytes((judges_folder() / name).read_bytes())
    monkeypatch.setattr(judge_weights, "judges_folder", lambda: tmp_path)
    assert judges_digest.__wrapped__() == judges_digest()
    changed = (tmp_path / names[1]).read_bytes()
    (tmp_path / names[1]).write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    assert judges_digest.__wrapped__() != judges_digest()


def test_the_digest_needs_no_torch() -> None:
    code = (
        "import sys\nfrom spin.miniature.judge_weights import judges_digest\n"
        "print(judges_digest(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{judges_digest()} False\n"
