"""From the config to exact values: the only place that reads one for the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.asking import Asked, held_out, prompt_set
from flows.data_request import prepare_request
from flows.safety import generated_safety
from spin.core.benchmarks import HELD_OUT
from spin.core.config import Config
from spin.core.config_rules import SET_METRICS, judges_of, scorers_of
from spin.core.config_training import SftConfig, TrainConfig
from spin.core.environment import code_version
from spin.core.layout import RealCache, RunFolder, RunsRoot, StageFolder
from spin.core.outline import benchmarks_of
from spin.core.plan import identity_hash
from spin.evaluate.request import EvaluateRequest
from spin.prepare.request import PrepareRequest, PrepareResult
from spin.sample.request import SampleRequest
from spin.train.request import AverageRequest, TrainingSettings, TrainRequest
from tasks.devices import visible_gpus


@dataclass(frozen=True)
class Model:
    """A model of the run: what the report calls it, its folder and its digest."""

    name: str  # base, sft, iteration-01, ...
    label: str  # base, SFT, SPIN 1, DPO, ...
    folder: Path
    digest: str


@dataclass(frozen=True)
class Requests:
    """Builds every request of one run."""

    config: Config
    device: str

    @property
    def root(self) -> RunsRoot:
        return RunsRoot(Path(self.config.run.root).absolute())

    @property
    def folder(self) -> RunFolder:
        return self.root.run(self.config.run.name)

    def asked(self, benchmark: str, prepared: Callable[[], PrepareResult], base: Path) -> Asked:
        """The prompts of a benchmark as the config wants them; `prepared` gives the run's data where it has some."""
        if benchmark in HELD_OUT:
            return held_out(prepared(), benchmark)
        limit, share = self.config.evaluation.prompts, self.config.data.max_bad_share
        return prompt_set(benchmark, self.root, limit=limit, max_bad_share=share, model=base)

    def _scorers(self, asked: Asked) -> tuple[str, ...]:
        """The config's; `auto` leaves out what needs real images or the miniature's captions where there are none."""
        found = scorers_of(self.config.model_dump())
        if self.config.evaluation.scorers != "auto" or asked.prompts is None:
            return found
        return tuple(name for name in found if name not in ("attributes", *SET_METRICS))

    @property
    def labelled(self) -> bool:
        """Whether the losers are the data's own: nothing is planned and nothing sampled."""
        return self.config.train.losers == "labelled"

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """What every model of the run is asked."""
        return benchmarks_of(self.config)

    @property
    def inline(self) -> bool:
        room = self.config.execution.room
        return self.device == "cpu" if room == "auto" else room == "inline"

    @property
    def _place(self) -> dict[str, Any]:
        """Where the networks run, and how."""
        asked = {name: getattr(self.config.execution, name) for name in ("dtype", "attention", "threads")}
        return {"device": self.device, **asked}

    def processes(self, batch_size: int) -> int:
        """Of a training: as the config says, or on as many GPUs of this process as can share a batch evenly."""
        if self.config.execution.train_processes or self.device == "cpu":
            return self.config.execution.train_processes or 1
        return max(count for count in range(1, len(visible_gpus()) + 1) if batch_size % count == 0)

    def prepare(self, base: Path, base_digest: str) -> PrepareRequest:
        return prepare_request(self.config, root=self.root, base=base, base_digest=base_digest, device=self.device)

    def plan(self, iteration: int, prepared: PrepareResult, opponent: Model) -> dict[str, Any]:
        """Keywords of `write_plan`."""
        sampling, train = self.config.sampling, self.config.train
        return {
            "prompts": prepared.prompts,
            "reads": train.at(iteration).steps * train.batch_size
            if sampling.rows == "read"
            else prepared.rows["train"] * sampling.draws,
            "draws": sampling.draws,
            "shard_size": sampling.shard_size,
            "batch_size": sampling.batch_size,
            "run_seed": self.config.run.seed,
            "config_hash": identity_hash(sampling.model_dump_json(), self.config.execution.dtype)[:16],
            "code_version": code_version(),
            "parent_digest": opponent.digest,
        }

    def sample(
        self,
        stage: StageFolder,
        shards: tuple[int, ...],
        prepared: PrepareResult,
        opponent: Model,
        check_images: int = 0,
    ) -> SampleRequest:
        sampling, execution = self.config.sampling, self.config.execution
        return SampleRequest(
            stage=stage.path,
            shards=shards,
            opponent=opponent.folder,
            opponent_digest=opponent.digest,
            text=RealCache(prepared.real).text,
            guidance_scale=sampling.guidance_scale,
            num_inference_steps=sampling.num_inference_steps,
            scheduler=sampling.scheduler,
            approximation=sampling.approximation,
            batch_size=sampling.batch_size,
            loser_source=sampling.loser_source,
            store_images=sampling.store_images,
            compile=sampling.compile,
            **self._place,
            check_images=check_images,
            store_trajectory=self.config.train.trajectory == "reverse",
            store_mirrored=self.config.train.flip,
            mix_classes=execution.mix_classes,
            safety=generated_safety(self.config),
        )

    def train_iteration(
        self, iteration: int, prepared: PrepareResult, start: Model, opponent: Model | None = None
    ) -> TrainRequest:
        """A training from `start`, held against `opponent`, or against the start itself."""
        request = self._train(self.folder.iteration(iteration), self.spin_settings(iteration), prepared, start)
        if self.config.train.reference == "stored":
            request = replace(request, errors=self.root.errors)
        if self.labelled:
            return replace(request, losers=RealCache(prepared.real).losers, draws=1)
        if opponent is None or opponent.digest == start.digest:
            return request
        return replace(request, reference=opponent.folder, reference_digest=opponent.digest)

    def average(self, iteration: int, opponent: Model, iterate: Model) -> AverageRequest:
        """The averaged opponent of an iteration, from the iteration before's and the newest model."""
        return AverageRequest(
            target=self.folder.iteration(iteration).opponent,
            opponent=opponent.folder,
            opponent_digest=opponent.digest,
            iterate=iterate.folder,
            iterate_digest=iterate.digest,
            decay=self.config.train.opponent_decay,
        )

    def train_sft(self, prepared: PrepareResult, base: Model) -> TrainRequest:
        return self._train(self.folder.sft, self.sft_settings(), prepared, base)

    def spin_settings(self, iteration: int) -> TrainingSettings:
        train, exact = self.config.train, self.config.train.at(iteration)
        return TrainingSettings(
            objective="spin",
            steps=exact.steps,
            lr=exact.lr,
            beta=exact.beta,
            batch_size=train.batch_size,
            warmup_steps=train.warmup_steps,
            lr_schedule=train.lr_schedule,
            weight_decay=train.weight_decay,
            max_grad_norm=train.max_grad_norm,
            caption_dropout=train.caption_dropout,
            link=train.link,
            noise=train.noise,
            timestep_weight=train.timestep_weight,
            sft_weight=train.sft_weight,
            trajectory=train.trajectory,
            over_timesteps=train.objective,
            timesteps_per_pair=train.timesteps_per_pair,
            safeguard=train.safeguard,
            ema_decay=train.ema_decay,
            drop_unsafe=self.config.safety.generated == "drop" and not self.labelled,
            **_adapter(train),
            **self._shared(),
        )

    def sft_settings(self) -> TrainingSettings:
        sft = self.config.sft
        return TrainingSettings(
            objective="sft",
            steps=sft.steps,
            lr=sft.lr,
            batch_size=sft.batch_size,
            warmup_steps=sft.warmup_steps,
            lr_schedule=sft.lr_schedule,
            weight_decay=sft.weight_decay,
            max_grad_norm=sft.max_grad_norm,
            caption_dropout=sft.caption_dropout,
            ema_decay=sft.ema_decay,
            **_adapter(sft),
            **self._shared(),
        )

    def evaluate(
        self,
        asked: Asked,
        subject: Model | None,
        shards: tuple[int, ...] | None = None,
        *,
        finish: bool = False,
    ) -> EvaluateRequest:
        """Shards of an evaluation; all of them, then the numbers of the whole set, where none are named."""
        evaluation = self.config.evaluation
        folder = evaluation.scorers_folder
        return EvaluateRequest(
            runs_root=self.root.path,
            subject=None if subject is None else subject.folder,
            subject_digest=f"data-{asked.digest}" if subject is None else subject.digest,
            benchmark=asked.benchmark,
            prompts=asked.prompts,
            real=asked.real,
            data_digest=asked.digest,
            max_prompts=evaluation.prompts,
            protocol=evaluation.protocol,
            images_per_prompt=evaluation.images_per_prompt,
            diversity_prompts=evaluation.diversity_prompts,
            diversity_images=evaluation.diversity_images,
            scheduler=evaluation.scheduler,
            guidance_scale=evaluation.guidance_scale,
            num_inference_steps=evaluation.num_inference_steps,
            seed=evaluation.seed,
            batch_size=evaluation.batch_size,
            shard_size=evaluation.shard_size,
            shards=shards,
            finish=finish or shards is None,
            judges=judges_of(self.config.model_dump()),
            scorers=self._scorers(asked),
            scorers_folder=None if folder is None else Path(folder).expanduser().absolute(),
            hps_version=evaluation.hps_version,
            hps_antialias=evaluation.hps_antialias,
            scorer_dtype=evaluation.scorer_dtype,
            max_bad_share=evaluation.max_bad_share,
            denoising_draws=evaluation.denoising_draws,
            safety=None if subject is None else generated_safety(self.config),
            **self._place,
        )

    def _train(
        self, stage: StageFolder, settings: TrainingSettings, prepared: PrepareResult, start: Model
    ) -> TrainRequest:
        return TrainRequest(
            stage=stage.path,
            start=start.folder,
            start_digest=start.digest,
            prompts=prepared.prompts,
            real=RealCache(prepared.real).latents,
            text=RealCache(prepared.real).text,
            draws=self.config.sampling.draws,
            run_seed=self.config.run.seed,
            settings=settings,
            **self._place,
            processes=self.processes(settings.batch_size),
            report_to=self.config.execution.report_to,
            sharding=self.config.execution.train_sharding,
        )

    def _shared(self) -> dict[str, Any]:
        """Settings that every training stage takes from `train`."""
        names = (
            "micro_batch_size", "timestep_law", "optimizer", "adam_beta1", "adam_beta2", "adam_epsilon",
            "flip", "posterior_sample", "gradient_checkpointing", "compile", "state_every_steps",
            "held_out_every_steps",
        )  # fmt: skip
        return {name: getattr(self.config.train, name) for name in names}


def _adapter(section: SftConfig | TrainConfig) -> dict[str, Any]:
    """Settings of the LoRA adapter; none of them where all weights train."""
    rank, alpha = section.lora_rank, section.lora_alpha
    if rank is None:
        return {}
    return {
        "lora_rank": rank, "lora_alpha": float(rank) if alpha is None else alpha, "lora_layers": section.lora_layers,
    }  # fmt: skip


def ask_once(
    requests: Requests, record: dict[str, Any], benchmark: str, prepared: Callable[[], PrepareResult]
) -> Asked:
    """The prompts that the run's first model was asked: a file or a hub that changes meanwhile changes nothing."""
    known = record.setdefault("prompt_sets", {})
    wanted = known.get(benchmark, benchmark)
    if wanted != benchmark and not (requests.root.prompt_sets / wanted).is_dir():
        wanted = benchmark
    asked = requests.asked(wanted, prepared, Path(record["base"]["path"]))
    if asked.prompts is not None:
        known[benchmark] = asked.again
    return asked
