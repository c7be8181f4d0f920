"""The hpsv2 package as PyPI has it: it names the checkpoints, and tests hold our scorer against it.

Its wheel lacks the vocabulary that it opens at its first import. open_clip ships the same file:

    python -m spin.evaluate.hps_package        puts it there; `make install` does so

It is never called to score: it loads its checkpoint anew for every picture.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from spin.core.errors import ArtifactError
from spin.core.store import hash_file

VOCABULARY: Final = "bpe_simple_vocab_16e6.txt.gz"
_VOCABULARY_SHA256: Final = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


def complete() -> Path:
    """Put the missing vocabulary in; the file's path. Nothing is imported: neither package could be, without it."""
    target = _folder("hpsv2") / "src" / "open_clip" / VOCABULARY
    source = _folder("open_clip") / VOCABULARY
    if hash_file(source) != _VOCABULARY_SHA256:
        raise ArtifactError("is not CLIP's vocabulary", where=str(source), fix="install open_clip_torch again")
    if not target.exists():
        shutil.copyfile(source, target)
    return target


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ArtifactError(f"package {package} is not installed", fix="make install")
    return Path(spec.origin).parent


if __name__ == "__main__":
    sys.stdout.write(f"{complete()}\n")
