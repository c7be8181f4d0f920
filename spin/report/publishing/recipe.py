"""The recipe of a published model: a config that runs again, and the settings that matter in words.

No place of the machine that it ran on is published: paths stand as /path/to/KEY, which `check` refuses by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from spin.core.benchmarks import HELD_OUT, PREPARED, PUBLISHED
from spin.core.config import Config
from spin.core.config_file import yaml_text
from spin.core.config_identity import settings_with_effect
from spin.report.markdown import bullets, code, escape, section, table
from spin.report.publishing.licences import base_on_hub, is_known_data
from spin.report.reading import Run, Stage
from spin.report.story import ITERATION_HEADER, iteration_lines

NAME: Final = "recipe.yaml"
_PLACES: Final = ("data.path", "evaluation.scorers_folder")
_SHOWN: Final = ("torch", "diffusers", "transformers", "accelerate", "python")


def recipe_yaml(run: Run, config: Config, stage: Stage) -> str:
    """A config for `spin-diffusion run`: all that moves a result, and no place of this machine."""
    tree: dict[str, Any] = {}
    for key, setting in settings_with_effect(config).items():
        section_name, _, name = key.rpartition(".")
        here = key == "model.base" and setting != "miniature" and base_on_hub(run, config) is None
        value = f"/path/to/{key}" if here else without_places(key, setting)
        place = tree.setdefault(section_name, {}) if section_name else tree
        place[name] = value
    head = (
        f"# Run {run.name}, stage {stage.name}, by spin-diffusion {run.record['code_version']}.",
        "# Every setting that moves a result. Paths are left out: set what begins with /path/to.",
    )
    return "\n".join([*head, *_lines(tree)]) + "\n"


def without_places(key: str, value: object) -> object:
    """A setting's value, a path or an address of this machine replaced by /path/to/KEY; in a list with its number."""
    if isinstance(value, list | tuple):
        return [_without_place(key, item, f"/path/to/{key}-{number}") for number, item in enumerate(value, start=1)]
    return _without_place(key, value, f"/path/to/{key}")


def _without_place(key: str, value: object, instead: str) -> object:
    if not isinstance(value, str) or not _is_place(key, value):
        return value
    known, equals, _ = value.partition("=")  # partiprompts=FOLDER
    return f"{known}={instead}" if equals and known in PUBLISHED else instead


def recipe_section(run: Run, config: Config, stage: Stage) -> str:
    """How the model came about, and the command that makes it again."""
    train, sampling, sft = config.train, config.sampling, config.sft
    game = "labelled losers (Diffusion-DPO)" if train.losers == "labelled" else "self-play (SPIN-Diffusion)"
    trained = ", ".join(escape(each.label) for each in run.stages if each.training is not None)
    facts = [f"model {escape(stage.label)} of {trained}; seed {config.run.seed}, {config.execution.dtype}"]
    if sft.steps:
        lora = f", LoRA of rank {sft.lora_rank}" if sft.lora_rank else ""
        facts.append(f"supervised start: {sft.steps} steps of {sft.batch_size} images at lr {sft.lr:g}{lora}")
    if stage.plays:
        lora = f", LoRA of rank {train.lora_rank}, merged" if train.lora_rank else ""
        facts.append(f"{game}, {train.link} link, {train.noise} noise, anchor {train.sft_weight:g}{lora}")
    if stage.plays and train.losers == "generated":
        how = f"{sampling.num_inference_steps} steps of {sampling.scheduler} at guidance {sampling.guidance_scale:g}"
        left_out = f"; approximated: {sampling.approximation}" if sampling.approximation.settings else ""
        facts.append(f"the opponent's images: {how}{left_out}")
    versions = run.record["versions"]
    facts.append("versions: " + ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions))
    lines = list(iteration_lines(run)) if stage.plays else []
    again = f"The same settings again, by spin-diffusion {code(run.record['code_version'])}: all of them stand in"
    again += f" [{NAME}]({NAME})."
    return section(
        "Recipe", bullets(facts), table(ITERATION_HEADER, lines) if lines else "", again,
        f"```\nspin-diffusion run {NAME}\n```",
    )  # fmt: skip


def _is_place(key: str, value: str) -> bool:
    if key == "data.path" and is_known_data(value):
        return False
    if key in _PLACES or value.startswith(("/", "~", ".")) or "\\" in value:
        return True
    if "://" in value:
        return not value.startswith("hf://")
    is_prompts = key == "evaluation.benchmarks"
    return is_prompts and value not in (*HELD_OUT, *PUBLISHED) and not PREPARED.fullmatch(value)


def _lines(tree: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {_written(value)}"


def _written(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_written(item) for item in value)}]"
    return json.dumps(value) if isinstance(value, str) else yaml_text(value)
