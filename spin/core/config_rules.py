"""Rules that a type and a range cannot say: names, lists as long as the iterations, sources that need a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from spin.core.approximation import Approximation
from spin.core.benchmarks import HELD_OUT, PUBLISHED
from spin.core.counted import network_calls

RESERVED_RUN_NAMES: Final = ("cache", "evaluations")  # folders beside the runs, in the runs root
JUDGES: Final[Mapping[str, tuple[str, ...]]] = {  # those that see one picture at a time, by who made them
    "miniature": ("alignment", "aesthetic", "attributes"),
    "published": ("pickscore", "hpsv2", "image_reward", "aesthetic"),
}
SET_METRICS: Final = ("frechet", "frechet_clean")  # in the features of the miniature's aesthetic judge
READ_CAPTIONS: Final = ("attributes", "frechet_clean")  # they must know what a caption says to draw or check it
BENCHMARKS: Final = (*HELD_OUT, *PUBLISHED)
DIVERSITY: Final = "diversity"  # of the pictures of one prompt
SCORERS: Final = (*dict.fromkeys(name for names in JUDGES.values() for name in names), *SET_METRICS, DIVERSITY)
Tracker = Literal[  # accelerate's, each the name of its package too
    "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb",
]  # fmt: skip
TRACKERS: Final[tuple[str, ...]] = get_args(Tracker)

# Their states are x_t of the forward process at whole time steps, which the reverse form of the loss reads; euler, edm
# and Karras' noise levels lie between steps, and the first two count in sigmas: x_0 + sigma eps.
REVERSE_SOLVERS: Final = ("dpmsolver++", "unipc", "deis", "ddim")

_MOST_SOLVER_STEPS: Final = 1000  # that the setting takes
_OWN: Final = ("imagefolder", "parquet", "webdataset", "pickapic")
_BRING_LOSERS: Final = {"miniature": "whose winners bring losers", "pickapic": "whose losers data.pairs asks for"}
_FILE_OF_PROMPTS: Final = re.compile(r"[./=]|-[0-9a-f]{16}$")  # a path, a URL, NAME=PATH, or a set that stands
_PASSWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@")
_CRON: Final = re.compile(r"[0-9*/,\-]+(\s+[0-9A-Za-z*/,\-?L#]+){4}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CALLABLE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_RUN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_run_name(name: str) -> str:
    if not _RUN_NAME.fullmatch(name):
        raise ValueError(f"expected 1 to 64 letters, digits, '.', '_' or '-', no mark in front; got {name[:40]!r}")
    if name in RESERVED_RUN_NAMES:
        raise ValueError(f"{name!r} is a folder of the house; choose another name")
    return name


def check_scorers(value: object) -> object:
    if isinstance(value, list | tuple):
        twice = next((name for i, name in enumerate(value) if name in value[:i]), None)
        if twice is not None:
            raise ValueError(f"names {str(twice)[:40]!r} twice")
    elif value != "auto":
        raise ValueError(f"expected auto, or a list of {', '.join(SCORERS)}; got {str(value)[:40]!r}")
    return value


def check_trackers(value: object) -> object:
    """A list of names, one name, or none for no tracker."""
    names = () if value in (None, "none") else (value,) if isinstance(value, str) else value
    for name in names if isinstance(names, list | tuple) else ():
        if name not in TRACKERS:
            raise ValueError(f"expected none, or a list of {', '.join(TRACKERS)}; got {str(name)[:40]!r}")
    return tuple(dict.fromkeys(names)) if isinstance(names, list | tuple) else names


def check_checker(name: str) -> str:
    if name != "diffusers" and not _CALLABLE.fullmatch(name):
        raise ValueError(f"expected diffusers, or package.module:function; got {name[:60]!r}")
    return name


def check_metric(name: str) -> str:
    known = tuple(dict.fromkeys(judge for judges in JUDGES.values() for judge in judges))
    if name != "auto" and name not in known:
        raise ValueError(f"expected auto, or one of {', '.join(known)}; got {name[:40]!r}")
    return name


def check_benchmark(name: str) -> str:
    if name not in BENCHMARKS and not _FILE_OF_PROMPTS.search(name):
        raise ValueError(f"expected one of {', '.join(BENCHMARKS)}, or a file of prompts; got {name[:40]!r}")
    return name


def check_benchmarks(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        check_benchmark(name)
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"names {twice[:40]!r} twice")
    return names


def judges_of(tree: Mapping[str, Any]) -> Literal["miniature", "published"]:
    """Who made the judges of a config: `auto` takes the miniature's for the miniature's own base model."""
    evaluation, model = tree.get("evaluation") or {}, tree.get("model") or {}
    wanted = evaluation.get("judges", "auto")
    if wanted == "auto":
        return "miniature" if model.get("base") == "miniature" else "published"
    return "published" if wanted == "published" else "miniature"


def scorers_of(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The scorers of a config: those it names, or all that can judge its pictures."""
    wanted = (tree.get("evaluation") or {}).get("scorers", "auto")
    if isinstance(wanted, list | tuple):
        return tuple(wanted)
    if judges_of(tree) == "published":
        return (*JUDGES["published"], DIVERSITY)
    if (tree.get("data") or {}).get("source") == "miniature":
        return (*JUDGES["miniature"], *SET_METRICS, DIVERSITY)
    return ("frechet", DIVERSITY)  # the others read captions of the miniature


def check_cron(text: str) -> str:
    if not _CRON.fullmatch(text):
        raise ValueError(f"expected five fields such as '30 4 * * *'; got {text[:40]!r}")
    return text


def check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name[:40]!r}; expected a name such as Europe/Berlin") from None
    return name


def check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("expected the name of an environment variable; keep the URL itself out of the config")
    return name


def broken_rules(tree: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Rules between settings that `tree` breaks; values of a wrong type are passed over, pydantic names those."""
    broken: list[tuple[tuple[str, ...], str]] = []
    iterations, train, data = tree.get("iterations"), tree.get("train"), tree.get("data")
    if isinstance(train, Mapping) and type(iterations) is int:
        for name in ("beta", "lr", "steps"):
            value = train.get(name)
            if isinstance(value, list | tuple) and 0 < len(value) < iterations:
                problem = f"has {len(value)} values, but iterations is {iterations}"
                broken.append((("train", name), f"{problem}; give {iterations}, or one number for all"))
    if isinstance(data, Mapping):
        broken += _broken_data_rules(data)
    broken += _broken_flip_rules(train, tree.get("sampling"), iterations)
    broken += _broken_sharding_rules(train, tree.get("execution")) + _broken_approximation_rules(tree.get("sampling"))
    broken += _broken_loser_rules(train, data) + _broken_opponent_rules(train, tree.get("sampling"))
    return broken + _broken_scorer_rules(tree) + _broken_gate_rules(tree)


def _broken_approximation_rules(sampling: object) -> list[tuple[tuple[str, ...], str]]:
    """What is left out must be there, and guidance in an interval is some."""
    if not isinstance(sampling, Mapping):
        return []
    broken: list[tuple[tuple[str, ...], str]] = []
    scale, every = sampling.get("guidance_scale"), sampling.get("reuse_every")
    if sampling.get("guidance_interval") is not None and isinstance(scale, int | float) and scale <= 1:
        problem = "has no use with sampling.guidance_scale 1, which guides nowhere; set it to null, or raise the scale"
        broken.append((("sampling", "guidance_interval"), problem))
    elif calls := _calls_without_guidance(sampling):
        problem = f"holds none of the {calls} calls of the network, so that nothing is guided"
        broken.append((("sampling", "guidance_interval"), f"{problem}; widen it, or set sampling.guidance_scale to 1"))
    if type(every) is int and every > 1 and sampling.get("compile") is True:
        problem = "leaves out blocks that sampling.compile has made one graph with the others; set one of them off"
        broken.append((("sampling", "reuse_every"), problem))
    return broken


def _calls_without_guidance(sampling: Mapping[str, Any]) -> int:
    """How often the network is asked where an interval lies between two calls; 0 where it does not."""
    interval, steps = sampling.get("guidance_interval"), sampling.get("num_inference_steps")
    if type(steps) is not int or not 0 < steps <= _MOST_SOLVER_STEPS or not isinstance(interval, list | tuple):
        return 0
    if len(interval) != 2 or not all(isinstance(end, int | float) for end in interval) or interval[0] >= interval[1]:
        return 0
    count = network_calls(str(sampling.get("scheduler")), steps)
    calls = Approximation((interval[0], interval[1])).calls(count, guided=True)
    return 0 if any(call.guided for call in calls) else count


def _broken_sharding_rules(train: object, execution: object) -> list[tuple[tuple[str, ...], str]]:
    """bitsandbytes' moments are blocks of numbers with a scale each, which are not cut in two.

    And weights that come together block by block break a graph at each block.
    """
    if not (isinstance(train, Mapping) and isinstance(execution, Mapping)):
        return []
    key, sharding = ("execution", "train_sharding"), execution.get("train_sharding", "none")
    broken: list[tuple[tuple[str, ...], str]] = []
    if train.get("optimizer") == "adamw_8bit" and sharding != "none":
        problem = "has no use with train.optimizer adamw_8bit, whose moments are not divided"
        broken.append((key, f"{problem}; set it to none, or the optimizer to adamw"))
    if train.get("compile") is True and sharding == "full":
        broken.append((key, "full does not go with train.compile; set it to optimizer, or train.compile to false"))
    return broken


def _broken_scorer_rules(tree: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """A judge of the other family would be asked for weights that do not exist."""
    if not all(isinstance(tree.get(name), Mapping) for name in ("evaluation", "model", "data")):
        return []
    family = judges_of(tree)
    fitting = (*JUDGES[family], *(SET_METRICS if family == "miniature" else ()), DIVERSITY)
    strangers = [name for name in scorers_of(tree) if name in SCORERS and name not in fitting]
    if not strangers:
        return []
    other = "miniature" if family == "published" else "published"
    problem = f"{strangers[0]} is none of the {family} judges' ({', '.join(fitting)})"
    return [(("evaluation", "scorers"), f"{problem}; leave it out, or set evaluation.judges to {other}")]


def _broken_gate_rules(tree: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """A gate that waits for a judge which never judges would be met only after the first iteration."""
    gate = tree.get("gate")
    if not (isinstance(gate, Mapping) and all(isinstance(tree.get(name), Mapping) for name in ("evaluation", "data"))):
        return []
    metric = gate.get("metric")
    if gate.get("mode") == "off" or metric == "auto" or not any(metric in names for names in JUDGES.values()):
        return []
    if metric in scorers_of(tree):
        return []
    return [(("gate", "metric"), f"{metric} does not judge this run; name one of evaluation.scorers, or auto")]


def _broken_loser_rules(train: object, data: object) -> list[tuple[tuple[str, ...], str]]:
    """Labelled losers must come with the data: known before anything is prepared, sampled or trained."""
    if not (isinstance(train, Mapping) and isinstance(data, Mapping)) or train.get("losers") != "labelled":
        return []
    key = ("train", "losers")
    if data.get("source") == "miniature" and data.get("target") == "clean":
        return [(key, "labelled has no losers with data.target clean; set data.target to winners")]
    if data.get("source") == "pickapic" and data.get("pairs") is False:
        return [(key, "labelled needs losers; set data.pairs to true")]
    if data.get("source") in _OWN and data.get("source") != "pickapic" and data.get("loser_column") is None:
        return [(key, "labelled needs losers; set data.loser_column to the column that holds them")]
    return []


def _broken_flip_rules(train: object, sampling: object, iterations: object) -> list[tuple[tuple[str, ...], str]]:
    """The sampler's own latents have no picture that could be mirrored and encoded."""
    if not (isinstance(train, Mapping) and isinstance(sampling, Mapping)) or iterations == 0:
        return []
    if train.get("flip") is not True or train.get("losers") != "generated" or train.get("trajectory") == "reverse":
        return []
    if sampling.get("loser_source") != "latents":
        return []
    return [(("train", "flip"), "true needs pictures of both sides; set sampling.loser_source to roundtrip")]


def _broken_opponent_rules(train: object, sampling: object) -> list[tuple[tuple[str, ...], str]]:
    """What only an opponent that draws its own images can do, and only as they were drawn."""
    if not (isinstance(train, Mapping) and isinstance(sampling, Mapping)):
        return []
    broken: list[tuple[tuple[str, ...], str]] = []
    labelled, reverse = train.get("losers") == "labelled", train.get("trajectory") == "reverse"
    if labelled and train.get("opponent") in ("earlier", "average"):
        broken.append((("train", "opponent"), "has no use with train.losers labelled; set it to previous"))
    if not reverse:
        return broken
    key = ("train", "trajectory")
    if labelled:
        broken.append((key, "reverse needs the opponent's own images; set train.losers to generated"))
    if sampling.get("loser_source") == "roundtrip":
        broken.append((key, "reverse reads the sampler's own states; set sampling.loser_source to latents"))
    solver = sampling.get("scheduler")
    if solver == "pndm":
        broken.append((key, "reverse needs each time step once, pndm repeats some; set sampling.scheduler to another"))
    elif isinstance(solver, str) and solver not in REVERSE_SOLVERS:
        problem = f"reverse reads states at the model's own time steps, {solver} steps between them"
        broken.append((key, f"{problem}; set sampling.scheduler to one of {', '.join(REVERSE_SOLVERS)}"))
    if train.get("reference") == "stored":
        broken.append((key, "reverse needs the opponent's predictions, not its errors; set train.reference to live"))
    if train.get("flip") is True:
        broken.append((key, "reverse: a mirrored state is none of the opponent's; set train.flip to false"))
    return broken


def _broken_data_rules(data: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    source, path = data.get("source"), data.get("path")
    if source == "miniature" and path is not None:
        return [(("data", "path"), "has no use with data.source miniature; set data.source to imagefolder or parquet")]
    broken: list[tuple[tuple[str, ...], str]] = []
    if isinstance(path, str) and _PASSWORD.match(path):
        broken.append((("data", "path"), "holds a password; leave it to the file system's own environment variables"))
    if source in _BRING_LOSERS and data.get("loser_column") is not None:
        broken.append((("data", "loser_column"), f"has no use with data.source {source}, {_BRING_LOSERS[source]}"))
    if source != "pickapic" and data.get("pairs") is True:
        broken.append((("data", "pairs"), "is of data.source pickapic; losers of your own are in data.loser_column"))
    if source in _BRING_LOSERS and data.get("captions") in ("first", "all", "drawn"):
        broken.append((("data", "captions"), f"has no use with data.source {source}, whose pictures have one each"))
    if source == "miniature" and data.get("aspect_ratio") == "buckets":
        problem = "buckets has no use with data.source miniature, whose pictures are square"
        broken.append((("data", "aspect_ratio"), problem))
    if source in _OWN:
        if path is None:
            broken.append(
                (("data", "path"), f"missing; data.source {source} needs the folder, file or URL of your pictures")
            )
        if data.get("target") == "clean":
            broken.append((("data", "target"), f"clean exists only in the miniature, not with data.source {source}"))
    return broken
