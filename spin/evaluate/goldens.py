"""Scores a folder of golden values: small models in the reference's own files, scored by the reference packages.

    python -m spin.evaluate.goldens DIR

prints each scorer's largest deviation, batched and one by one, and exits with 1 where one is past its tolerance.
The folder says everything itself: pictures, prompts, weights, widths and numbers of layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from spin.core.errors import ArtifactError, SpinError
from spin.evaluate.aesthetic import Aesthetic, vision_config
from spin.evaluate.hpsv2 import HPSv2
from spin.evaluate.image_reward import ImageReward, read_vocabulary
from spin.evaluate.pickscore import PickScore
from spin.evaluate.scorer import Scorer
from spin.evaluate.weights import load_state, read_json

Scores = npt.NDArray[np.float64]  # (prompts, images); NaN where the reference itself fails
_FIX: Final = "name a folder of goldens"
TOLERANCES: Final[Mapping[str, float]] = {  # absolute
    "pickscore": 1e-3, "hpsv2": 1e-5, "hpsv2 without antialias": 1e-5, "image_reward": 1e-3, "aesthetic": 1e-4,
}  # fmt: skip


@dataclass(frozen=True)
class Goldens:
    """A folder of goldens: its pictures as PIL opens them, its prompts."""

    folder: Path
    image_names: tuple[str, ...]
    images: tuple[Image.Image, ...]
    prompts: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> Goldens:
        inputs = read_json(folder / "inputs.json", fix=_FIX)
        files = [folder / "images" / entry["file"] for entry in inputs["images"]]
        return cls(
            folder,
            tuple(entry["name"] for entry in inputs["images"]),
            tuple(_open_image(file) for file in files),
            tuple(entry["text"] for entry in inputs["prompts"]),
        )

    def config(self, scorer: str, name: str) -> dict[str, Any]:
        return read_json(self.folder / scorer / f"{name}.json", fix=_FIX)

    def state(self, scorer: str, name: str) -> dict[str, Any]:
        return load_state(self.folder / scorer / f"{name}.safetensors.gz")

    def expected(self, scorer: str, field: str = "scores") -> Scores:
        """(P, I), the reference's value of every prompt and picture."""
        golden = self.config(scorer, "golden")
        rows = np.array([[np.nan if value is None else value for value in _row(row)] for row in golden[field]], float)
        if not isinstance(golden[field][0], list):  # a judge that does not look at the prompt has one list of pictures
            rows = np.repeat(rows.T, len(self.prompts), axis=0)
        # Where the reference refuses a picture as it is, the converted one's scores stand.
        for image, values in golden.get("scores_after_convert_rgb", {}).items() if field == "scores" else ():
            rows[:, self.image_names.index(image)] = values
        return rows


def pickscore(goldens: Goldens) -> PickScore:
    return PickScore(goldens.config("pickscore", "config"), goldens.state("pickscore", "model"))


def hpsv2(goldens: Goldens, *, antialias: bool = True) -> HPSv2:
    config, state = goldens.config("hpsv2", "open_clip_config"), goldens.state("hpsv2", "state_dict")
    return HPSv2(config, state, hps_antialias=antialias)


def image_reward(goldens: Goldens) -> ImageReward:
    text, vision = (goldens.config("imagereward", name) for name in ("med_config", "vit_config"))
    vocabulary = read_vocabulary(goldens.folder / "imagereward" / "vocab.txt")
    return ImageReward(text, vision, goldens.state("imagereward", "ImageReward"), vocabulary)


def aesthetic(goldens: Goldens) -> Aesthetic:
    tower, head = goldens.state("aesthetic", "clip_visual_openai"), goldens.state("aesthetic", "mlp")
    return Aesthetic(vision_config(goldens.config("aesthetic", "vision_config")), tower, head)


def one_by_one(scorer: Scorer, goldens: Goldens) -> Scores:
    """(P, I), every picture under every prompt on its own."""
    return np.array(
        [[scorer.score([image], [prompt]).item() for image in goldens.images] for prompt in goldens.prompts]
    )


def batched(scorer: Scorer, goldens: Goldens) -> Scores:
    """(P, I), all pairs in one batch."""
    pairs = [(image, prompt) for prompt in goldens.prompts for image in goldens.images]
    scores = scorer.score([image for image, _ in pairs], [prompt for _, prompt in pairs])
    return scores.double().numpy().reshape(len(goldens.prompts), len(goldens.images))


def deviations(goldens: Goldens) -> Iterator[tuple[str, float]]:
    """Name and largest absolute deviation of each judge; NaN where a judge gives no number."""
    judges: Sequence[tuple[str, Callable[[], Scorer], Scores]] = (
        ("pickscore", lambda: pickscore(goldens), goldens.expected("pickscore")),
        ("hpsv2", lambda: hpsv2(goldens), goldens.expected("hpsv2")),
        ("hpsv2 without antialias", lambda: hpsv2(goldens, antialias=False),
         goldens.expected("hpsv2", "scores_antialias_false")),
        ("image_reward", lambda: image_reward(goldens), goldens.expected("imagereward")),
        ("aesthetic", lambda: aesthetic(goldens), goldens.expected("aesthetic")),
    )  # fmt: skip
    for name, build, expected in judges:
        judge, known = build(), ~np.isnan(expected)
        found = [ways(judge, goldens)[known] for ways in (one_by_one, batched)]
        yield name, max(float(np.abs(scores - expected[known]).max()) for scores in found)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m spin.evaluate.goldens DIR\n")
        return 2
    try:
        goldens = Goldens.open(Path(arguments[0]))
        sys.stdout.write(f"{len(goldens.images)} pictures x {len(goldens.prompts)} prompts of {goldens.folder}\n")
        found = dict(deviations(goldens))
    except SpinError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        sys.stderr.write(f"{arguments[0]}: is no whole folder of goldens ({reason}); restore it\n")
        return 2
    for name, deviation in found.items():
        verdict = "equal" if deviation <= TOLERANCES[name] else "DIFFERENT"
        sys.stdout.write(f"{name:<24} {deviation:.2e} of {TOLERANCES[name]:.0e} allowed: {verdict}\n")
    return 0 if all(deviation <= TOLERANCES[name] for name, deviation in found.items()) else 1


def _row(row: Any) -> list[Any]:
    return row if isinstance(row, list) else [row]


def _open_image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except OSError as error:
        raise ArtifactError(f"is no picture: {error}", where=str(path), fix="restore the folder of goldens") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
