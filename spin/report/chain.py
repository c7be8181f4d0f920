"""Every artifact of a run as a link that names what it was made from, down to data, config and code.

Only manifests are read: an artifact's identity holds the digests of what it was made from, so a link is broken where
a file is missing or damaged, or where what stands there now has another digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from spin.core.benchmarks import HELD_OUT
from spin.core.config_identity import recorded_hash
from spin.core.errors import ArtifactError
from spin.core.layout import EvaluationFolder, RealCache, RunFolder, StageFolder
from spin.core.planning import read_plan
from spin.core.record import read_record, relative
from spin.report.link import Link
from spin.report.standing import SHORT, Artifacts, Standing, differing, whole_digest

_NOT_SETTINGS: Final = ("data_digest", "versions", "real")  # of an evaluation: links of their own


class Chain:
    """The links of one run, each made when it is first asked for; every method gives the id of one."""

    def __init__(
        self, folder: RunFolder, *, hash_bytes: bool = False, model_digest: Callable[[Path], str] | None = None
    ) -> None:
        """Open a run.

        Args:
            hash_bytes: verify every byte; else manifest, size and footer.
            model_digest: tells the digest of a base model, which has no manifest; None: only that it is there.
        """
        self.folder, self.root, self.record = folder, folder.root, read_record(folder)
        self.stages: dict[str, dict[str, Any]] = {str(stage["name"]): stage for stage in self.record["stages"]}
        self.links: dict[str, Link] = {}
        self._artifacts = Artifacts(folder.root, hash_bytes=hash_bytes)
        self._model_digest = model_digest

    def reachable(self, start: str) -> list[Link]:
        """A link and all that it was made from, each once, nearest first."""
        found = [start]
        for id in found:
            found += [source for source in self.links[id].made_from if source not in found]
        return [self.links[id] for id in found]

    def add(self, link: Link) -> str:
        return self.links.setdefault(link.id, link).id

    def config(self) -> str:
        record = self.record
        found = recorded_hash(record["config"])
        broken = differing("run.json holds another config than it names", found, record["config_hash"])
        facts = {"seed": record["seed"], "code_version": record["code_version"], "versions": record["versions"]}
        return self.add(Link("config", "config", "run.json", record["config_hash"], (), facts, (), broken))

    def data(self) -> str:
        config = self.record["config"].get("data") or {}
        facts = {"source": config.get("source"), "path": config.get("path"), "rows": self.record.get("prompts")}
        digest = self.record.get("data_digest")
        broken = () if digest else ("run.json names no data",)
        return self.add(Link("data", "data", str(config.get("source")), digest, (self.config(),), facts, (), broken))

    def prompts(self) -> str:
        file = self._artifacts.look(self.folder.prompts)
        broken = differing("made from other data", file.identity.get("data"), self.record.get("data_digest"))
        return self.add(Link("prompts", "prompts", file.path, file.digest, (self.data(),), {}, (file,), broken))

    def real(self) -> str:
        """Real pictures and captions, encoded once."""
        place = self.record.get("real")
        if not place:
            return self.add(Link("real", "real latents", "", broken=("run.json names no cache",)))
        cache = RealCache(self.root.path / place)
        flips = bool((self.record["config"].get("train") or {}).get("flip"))
        files = self._look(*cache.files(losers=False, flips=flips))
        sources = (self.data(), self.model("base"))
        broken = self._encoded(files)
        return self.add(Link("real", "real latents", place, files[0].digest, sources, {}, files, broken))

    def losers(self) -> str:
        """The data's own losers, encoded once: what a run with labelled losers plays against."""
        file = self._artifacts.look(RealCache(self.root.path / str(self.record.get("real"))).losers)
        sources, broken = (self.data(), self.model("base")), self._encoded((file,))
        return self.add(Link("losers", "labelled losers", file.path, file.digest, sources, {}, (file,), broken))

    def model(self, name: str) -> str:
        """The weights of a stage."""
        if f"model {name}" in self.links:
            return f"model {name}"
        return self._base() if name == "base" else self._trained(name)

    def opponent(self, name: str) -> str:
        """The averaged opponent of an iteration: of the opponent before it and of the iterate that starts."""
        stage, file = self.stages[name], self._artifacts.look(StageFolder(self.folder.path / name).opponent)
        averaged = [file.identity.get(kind) for kind in ("opponent", "iterate")]
        before = self._before(name)
        sources = tuple(id for digest in averaged for id in self._player(digest, models=before, averages=before))
        broken = (
            *differing("run.json names another opponent", file.digest, stage.get("opponent_digest")),
            *differing("averaged with another iterate than starts", averaged[1], stage.get("start_digest")),
            *(("averaged from what is no model of the run",) if file.identity and len(sources) < 2 else ()),
        )
        facts, files = {"decay": file.identity.get("decay")}, (file,)
        return self.add(Link(f"opponent {name}", "averaged opponent", name, file.digest, sources, facts, files, broken))

    def samples(self, name: str) -> str:
        """The opponent's images of an iteration."""
        stage = StageFolder(self.folder.path / name)
        plan = self.links[self._plan(stage)]
        files = self._look(*(stage.samples(shard) for shard in range(plan.facts["shards"])))
        opponent = plan.facts["opponent"]
        broken = [
            line
            for file in files
            for line in (
                *differing(f"{file.name} was drawn from another plan", file.identity.get("plan"), plan.digest),
                *differing(f"{file.name} was drawn by another opponent", file.identity.get("opponent"), opponent),
            )
        ]
        facts = {key: value for file in files[:1] for key, value in file.identity.items() if key not in ("plan",)}
        sources = (plan.id, *self._opponent(opponent, of=name), self.real())
        digest = whole_digest(files)
        return self.add(Link(f"samples {name}", "samples", name, digest, sources, facts, files, tuple(broken)))

    def log(self, name: str, *, held_out: bool = False) -> str:
        """The training log of a stage, or its held-out errors; made from what its weights were made from."""
        stage = StageFolder(self.folder.path / name)
        file = self._artifacts.look(stage.held_out_log if held_out else stage.training_log)
        model = self.model(name)
        weights = self._artifacts.look(self._checkpoint(name)).identity
        other = bool(file.identity and weights) and file.identity != weights
        broken = ("is not of the training that made the weights",) if other else ()
        return self.add(Link(f"log {file.path}", "training log", file.path, file.digest, (model,), {}, (file,), broken))

    def scores(self, name: str, folder: EvaluationFolder) -> str:
        """Scores, held-out errors and the numbers of the whole set of one evaluation of a stage, or of `data`."""
        key, whole = relative(folder.path, self.root), self._artifacts.look(folder.set_metrics)
        count = len(whole.identity.get("images") or sorted(folder.scores(0).parent.glob("shard-*.parquet")))
        pictures = self._pictures(name, folder, count)
        drawn = [file.digest for file in self.links[pictures].files]
        scores = self._look(*(folder.scores(shard) for shard in range(count)))
        broken = [
            line
            for file, digest in zip(scores, drawn, strict=True)
            for line in differing(f"{file.name} scores other pictures", file.identity.get("images"), digest)
        ]
        if whole.identity.get("images", drawn) != drawn:
            broken.append("the numbers of the whole set are of other pictures")
        settings = whole.identity.get("settings") or {}
        measured = settings.get("real") and name != "data"
        more = self._look(*(folder.denoising(shard) for shard in range(count))) if measured else ()
        sources, files = (pictures, self._judges(settings)), (*scores, *more, whole)
        title, digest = self._title(name, folder), whole_digest(scores)
        return self.add(Link(f"scores {key}", "scores", title, digest, sources, {"folder": key}, files, tuple(broken)))

    def votes(self) -> str:
        """What people voted."""
        files = self._look(*sorted(self.folder.votes.rglob("vote-*.parquet")))
        return self.add(Link("votes", "human votes", "votes", whole_digest(files), files=files))

    def pictures(self, name: str, folder: EvaluationFolder) -> str:
        """The pictures of one evaluation."""
        return self.links[self.scores(name, folder)].made_from[0]

    def _base(self) -> str:
        base = self.record.get("base") or {}
        path = Path(str(base.get("path")))
        if not (path / "model_index.json").is_file():
            broken: tuple[str, ...] = (f"{path} is missing",)
        else:
            found = None if self._model_digest is None else self._model_digest(path)
            broken = differing("the base model has changed", found, base.get("digest"))
        facts = {"path": base.get("path")}
        return self.add(Link("model base", "base model", "base", base.get("digest"), (), facts, (), broken))

    def _trained(self, name: str) -> str:
        stage, file = self.stages[name], self._artifacts.look(self._checkpoint(name))
        start = file.identity.get("start") or stage.get("start_digest") or stage.get("opponent_digest")
        reference = file.identity.get("reference")  # recorded only where another plays than starts
        asked = {"trained from": start, **({"held against": reference} if reference else {})}
        players = {role: self._opponent(digest, of=name) for role, digest in asked.items()}
        read = {"prompts": self.links[self.prompts()].digest}
        for file_of, found in zip(("real", "text"), self.links[self.real()].files, strict=False):
            read[file_of] = found.digest
        models = list(dict.fromkeys(id for ids in players.values() for id in ids))
        sources = [*models, "prompts", "real", self.config()]
        if stage.get("samples"):
            sources.insert(len(models), self.samples(name))
            read["samples"] = self.links[f"samples {name}"].digest
        if self._labelled(name):
            sources.append(self.losers())
            read["losers"] = self.links["losers"].digest
        broken = [
            *differing("run.json names another digest", file.digest, stage.get("digest")),
            *differing("run.json names another opponent", reference or start, stage.get("opponent_digest")),
            *(f"{x} {str(asked[x])[:SHORT]}, which is no model of the run" for x in players if not players[x]),
            *(x for kind in read for x in differing(f"trained on other {kind}", file.identity.get(kind), read[kind])),
        ]
        kept = {key: file.identity.get(key) for key in ("run_seed", "draws", "dtype")}
        facts = {**(file.identity.get("settings") or {}), **kept}
        label, digest = str(stage.get("label") or name), stage.get("digest")
        return self.add(
            Link(f"model {name}", "checkpoint", label, digest, tuple(sources), facts, (file,), tuple(broken))
        )

    def _labelled(self, name: str) -> bool:
        """Whether a stage trained against the data's own losers."""
        train = self.record["config"].get("train") or {}
        return name.startswith("iteration-") and train.get("losers") == "labelled"

    def _encoded(self, files: Iterable[Standing]) -> tuple[str, ...]:
        """What of the cache is of other data than the run's, or of another encoder than its base model's."""
        data, base = self.record.get("data_digest"), (self.record.get("base") or {}).get("digest")
        return tuple(
            line
            for file in files
            for line in (
                *differing(f"{file.name} is of other data", file.identity.get("data"), data),
                *differing(f"{file.name} was encoded by another model", file.identity.get("model"), base),
            )
        )

    def _plan(self, stage: StageFolder) -> str:
        files, prompts = self._look(stage.plan, stage.plan_rows), self.prompts()
        broken = [*differing("written for other prompts", files[1].identity.get("prompts"), self.links[prompts].digest)]
        recorded = self.stages.get(stage.name, {})
        plan_hash, opponent = (recorded.get("samples") or {}).get("plan_hash"), recorded.get("opponent_digest")
        try:
            plan = read_plan(stage)
        except ArtifactError as error:
            broken += [] if any(file.broken for file in files) else [error.message]
            shards = len(list(stage.samples(0).parent.glob("shard-*.parquet")))
        else:
            broken += differing("run.json names another plan", plan.plan_hash, plan_hash)
            broken += differing("planned by other code", plan.code_version, self.record["code_version"])
            broken += differing("planned for another opponent", plan.parent_digest, opponent)
            plan_hash, opponent, shards = plan.plan_hash, plan.parent_digest, plan.shards
        sources = (prompts, *self._opponent(opponent, of=stage.name), self.config())
        facts = {"shards": shards, "opponent": opponent}
        return self.add(Link(f"plan {stage.name}", "plan", stage.name, plan_hash, sources, facts, files, tuple(broken)))

    def _pictures(self, name: str, folder: EvaluationFolder, count: int) -> str:
        files = self._look(*(folder.images(shard) for shard in range(count)))
        identity = next((file.identity for file in files if file.identity), {})
        settings = identity.get("settings") or {}
        model = None if name == "data" else self.model(name)
        digest = f"data-{self.record.get('data_digest')}" if model is None else self.links[model].digest
        broken = [
            line
            for file in files
            for line in differing(f"{file.name} was drawn by another model", file.identity.get("subject"), digest)
        ]
        sources = (*([model] if model else ()), self._asked(folder, settings))
        key, title = relative(folder.path, self.root), self._title(name, folder)
        facts = {"folder": key} | {key: value for key, value in settings.items() if key not in _NOT_SETTINGS}
        whole = whole_digest(files)
        return self.add(Link(f"pictures {key}", "pictures", title, whole, sources, facts, files, tuple(broken)))

    def _asked(self, folder: EvaluationFolder, settings: Mapping[str, Any]) -> str:
        """The prompts of an evaluation: held-out rows of the data, or a prompt set."""
        digest = settings.get("data_digest")
        if folder.benchmark in HELD_OUT:
            return self.real()
        if digest is None:
            return self.add(Link("asked", "prompt set", folder.benchmark, broken=("nothing tells which prompts",)))
        file = self._artifacts.look(self.root.prompt_set(folder.benchmark, digest).prompts)
        broken = differing("holds other prompts", file.digest, digest)
        return self.add(Link(f"asked {file.path}", "prompt set", file.path, digest, (), {}, (file,), broken))

    def _judges(self, settings: Mapping[str, Any]) -> str:
        versions = settings.get("versions") or {}
        digest = " ".join(sorted(set(versions.values()))) or None
        broken = () if versions else ("nothing tells which weights judged",)
        name = str(settings.get("judges") or "unknown")
        return self.add(Link(f"judges {digest}", "judges' weights", name, digest, (), dict(versions), (), broken))

    def _opponent(self, digest: str | None, *, of: str) -> tuple[str, ...]:
        """The model with this digest that was made before stage `of`, or an averaged opponent, at last its own."""
        before = self._before(of)
        return self._player(digest, models=before, averages=[*before, of])

    def _player(self, digest: str | None, *, models: Iterable[str], averages: Iterable[str]) -> tuple[str, ...]:
        """Who has this digest, if anyone: a model of these stages, or the averaged opponent of those."""
        for name in models:
            if digest and self.stages[name].get("digest") == digest:
                return (self.model(name),)
        for name in averages:
            if digest and self._averaged(name) == digest:
                return (self.opponent(name),)
        return ()

    def _averaged(self, name: str) -> str | None:
        """Digest that an iteration's averaged opponent must have; None where a model of the run played."""
        stage, train = self.stages.get(name, {}), self.record["config"].get("train") or {}
        if train.get("opponent") != "average" or stage.get("opponent_digest") == stage.get("start_digest"):
            return None
        return stage.get("opponent_digest")

    def _before(self, name: str) -> list[str]:
        """Stages that stood when this one began."""
        names = list(self.stages)
        return names[: names.index(name) if name in names else None]

    def _title(self, name: str, folder: EvaluationFolder) -> str:
        return f"{self.stages.get(name, {}).get('label') or name}, {folder.benchmark}.{folder.protocol}"

    def _checkpoint(self, name: str) -> Path:
        return self.root.path / str(self.stages[name].get("checkpoint"))

    def _look(self, *artifacts: Path) -> tuple[Standing, ...]:
        return tuple(self._artifacts.look(artifact) for artifact in artifacts)
