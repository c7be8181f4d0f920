from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from spin.diffusion.digest import model_digest
from spin.miniature.packaged import packaged_pipeline_path
from tests.families import change
from tests.world import World


def test_the_digest_names_the_files_and_not_their_place(world: World, tmp_path: Path) -> None:
    base = Path(shutil.copytree(world.base, tmp_path / "base"))
    assert model_digest(base) == world.base_digest
    (base / "README.md").write_text("a note", "utf-8")
    (base / "safety_checker").mkdir()  # downloaded later, it judges pictures and draws none
    (base / "safety_checker" / "config.json").write_text("{}", "utf-8")
    assert model_digest(base) == world.base_digest
    change(base / "unet" / "config.json", act_fn="gelu")
    assert model_digest(base) != world.base_digest


def test_a_flow_run_asks_for_a_digest_without_torch() -> None:
    """Importing torch and diffusers takes longer than all else that a child flow run does before its room opens."""
    code = (
        "import sys; from pathlib import Path; import flows.sample_shard;"
        "from spin.diffusion.digest import model_digest; model_digest(Path(sys.argv[1]));"
        "print([name for name in ('torch', 'diffusers') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code, str(packaged_pipeline_path())], capture_output=True, text=True)
    assert said.stdout.strip() == "[]", said.stderr
