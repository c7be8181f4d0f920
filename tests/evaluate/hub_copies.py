"""Folders of the shape that the benchmarks have on the hub: the same files, columns and cards, other prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CATEGORIES = ("Abstract", "Arts", "Animals")
STYLES = ("anime", "concept-art", "paintings", "photo")
_PICKAPIC_CARD = """---
dataset_info:
  features:
  - name: are_different
    dtype: bool
  - name: caption
    dtype: string
  - name: image_0_url
    dtype: string
  splits:
  - name: train
    num_bytes: 565913782
    num_examples: 959040
  - name: test_unique
    num_bytes: 277834
    num_examples: 500
  download_size: 291928467
  dataset_size: 590036673
---
# Dataset Card for "pickapic_v2_no_images"
"""


def pickapic(folder: Path, rows: int = 500) -> Path:
    """yuvalkirstain/pickapic_v2_no_images; train is no Parquet at all, so nobody may open it."""
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(_PICKAPIC_CARD)
    captions = [f"pick {number}" for number in range(rows)]
    table = {"are_different": [True] * rows, "caption": captions, "image_0_url": ["https://example.org"] * rows}
    pq.write_table(pa.table(table), folder / "data" / "test_unique-00000-of-00001-e852c19ead276a89.parquet")
    (folder / "data" / "train-00000-of-00002-c261d1ef2a61d087.parquet").write_bytes(b"pictures")
    return folder


def partiprompts(folder: Path, rows: int = 1632) -> Path:
    """nateraw/parti-prompts: one table sorted by challenge."""
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Dataset Card for PartiPrompts (P2)\n")
    lines = ["Prompt\tCategory\tChallenge\tNote", 'NA\tArts\tBasic\tDescription of "Dogs"']
    for number in range(1, rows):
        challenge = "Basic" if number < rows // 2 else "Imagination"
        lines.append(f'part {number} called "{number}"\t{CATEGORIES[number % 3]}\t{challenge}\t')
    (folder / "PartiPrompts.tsv").write_text("\n".join(lines) + "\n")
    return folder


def hpsv2(folder: Path, rows: int = 800) -> Path:
    """zhwang/HPDv2: four lists of strings beside pictures."""
    (folder / "benchmark" / "benchmark_imgs").mkdir(parents=True)
    (folder / "README.md").write_text("# Human Preference Dataset v2 (HPD v2)\n")
    (folder / "benchmark" / "benchmark_imgs" / "CM.tar.gz").write_bytes(b"pictures")
    for style in STYLES:
        prompts = [f"{style} {number}, \u00e9" for number in range(rows)]
        (folder / "benchmark" / f"{style}.json").write_text(json.dumps(prompts))
    return folder
