"""Makes the packaged weights again: `python -m spin.miniature.build OUT`, about 35 minutes on two cores.

Two processes of one thread each: the UNet with its text encoder, and beside it the decoder and the
judges. All of it is seeded; the steps are fixed, not the time.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import argparse
import json
import logging
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss

from spin.miniature.dataset import misdraw
from spin.miniature.judges import AestheticJudge, AlignmentJudge
from spin.miniature.pca_encoder import write_pca_encoder
from spin.miniature.pipeline import build_pipeline
from spin.miniature.renderer import Pixels, render
from spin.miniature.world import (
    Attributes,
    all_attributes,
    pretraining_attributes,
)

log = logging.getLogger("spin.miniature.build")

SEED = 20240215


@dataclass(frozen=True)
class Budget:
    """Optimizer steps and corpus sizes; the tests make a tiny one."""

    corpus_images: int = 40_000
    decoder_steps: int = 5_000
    judge_steps: int = 2_500
    unet_cycles: tuple[int, ...] = (5_000, 2_500)  # many more leave fine-tuning nothing to mend


@dataclass(frozen=True)
class Corpus:
    """Rendered pictures (N, 32, 32, 3), what their captions say, what they show, how good they are (N,)."""

    pixels: Pixels
    captions: list[str]
    shown: list[Attributes]
    quality: np.ndarray

    @property
    def images(self) -> Tensor:
        return to_images(self.pixels)


def to_images(pixels: Pixels) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def web_corpus(count: int, seed: int) -> Corpus:
    """The base model's "web": quality below 0.6, 12 % of attributes are not as the caption says."""
    rng = np.random.default_rng(seed)
    said = _draw(pretraining_attributes(), count, rng)
    quality = rng.uniform(0.0, 0.6, count)
    shown = [misdraw(a, 0.12, rng) for a in said]
    return Corpus(render(shown, quality, rng), [a.caption for a in said], shown, quality)


def true_corpus(count: int, seed: int) -> Corpus:
    """All 768 captions, shown as said, every quality: what the autoencoder and the judges learn from."""
    rng = np.random.default_rng(seed)
    shown = _draw(all_attributes(), count, rng)
    quality = rng.uniform(0.0, 1.0, count) ** 0.7
    return Corpus(render(shown, quality, rng), [a.caption for a in shown], shown, quality)


def build_autoencoder_and_judges(out: Path, budget: Budget) -> None:
    """Write OUT/vae.safetensors, OUT/aesthetic.safetensors and OUT/alignment.safetensors."""
    torch.set_num_threads(1)
    corpus = true_corpus(budget.corpus_images, SEED + 1)
    vae = build_pipeline(SEED).vae
    write_pca_encoder(vae, corpus.images[:8_000])
    train_decoder(vae, corpus, budget.decoder_steps)
    _save(vae, out / "vae.safetensors")
    _save(train_aesthetic_judge(corpus, budget.judge_steps), out / "aesthetic.safetensors")
    _save(train_alignment_judge(corpus, budget.judge_steps), out / "alignment.safetensors")


def build_unet_and_text_encoder(out: Path, budget: Budget) -> None:
    """Write OUT/unet.safetensors and OUT/text_encoder.safetensors: an epsilon model of the web corpus."""
    torch.set_num_threads(1)
    pipeline = build_pipeline(SEED)
    write_pca_encoder(pipeline.vae, true_corpus(budget.corpus_images, SEED + 1).images[:8_000])
    corpus = web_corpus(budget.corpus_images, SEED + 2)
    latents = encode(pipeline.vae, corpus)
    captions = sorted(set(corpus.captions))
    rows = torch.tensor([captions.index(caption) for caption in corpus.captions])
    tokens = _tokenize(pipeline, ["", *captions])
    networks = nn.ModuleList([pipeline.unet, pipeline.text_encoder]).train()
    generator = torch.Generator()
    alphas = pipeline.scheduler.alphas_cumprod

    def loss(pick: Tensor) -> Tensor:
        dropped = torch.rand(len(pick), generator=generator) < 0.1
        ids = tokens[torch.where(dropped, 0, rows[pick] + 1)]
        t = torch.randint(1000, (len(pick),), generator=generator)
        noise = torch.randn(len(pick), *latents.shape[1:], generator=generator)
        alpha = alphas[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents[pick] + (1 - alpha).sqrt() * noise
        text = pipeline.text_encoder(ids).last_hidden_state
        return mse_loss(pipeline.unet(noisy, t, text).sample, noise)

    for cycle, steps in enumerate(budget.unet_cycles):
        generator.manual_seed(SEED + 3 + 100 * cycle)
        average = EMAModel(networks.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
        batches = _batches(len(latents), 128, steps, generator)
        _optimise(f"unet cycle {cycle + 1}", networks, loss, batches, steps, lr=1e-3, average=average)
        average.copy_to(networks.parameters())
    _save(pipeline.unet, out / "unet.safetensors")
    _save(pipeline.text_encoder, out / "text_encoder.safetensors")


@torch.no_grad()
def encode(vae: AutoencoderKL, corpus: Corpus) -> Tensor:
    """Latent means of all pictures, (N, 16, 4, 4)."""
    return torch.cat(
        [vae.encode(to_images(corpus.pixels[i : i + 64])).latent_dist.mean for i in range(0, len(corpus.pixels), 64)]
    )


def train_decoder(vae: AutoencoderKL, corpus: Corpus, steps: int) -> None:
    """Fit the decoder to cached latents; a little latent noise makes it forgiving of a sampler's errors."""
    latents, images = encode(vae, corpus), corpus.images
    generator = torch.Generator().manual_seed(SEED + 4)

    def loss(pick: Tensor) -> Tensor:
        noise = 0.02 * torch.randn(len(pick), *latents.shape[1:], generator=generator)
        decoded = vae.decode(latents[pick] + noise).sample
        return l1_loss(decoded, images[pick]) + mse_loss(decoded, images[pick])

    _optimise("decoder", vae.decoder.train(), loss, _batches(len(latents), 32, steps, generator), steps, lr=1.5e-3)
    vae.eval()


def train_aesthetic_judge(corpus: Corpus, steps: int) -> AestheticJudge:
    """Regress quality, classify the attributes beside it."""
    torch.manual_seed(SEED + 5)
    judge, images = AestheticJudge(), corpus.images
    quality = torch.tensor(corpus.quality, dtype=torch.float32)
    labels = torch.tensor([a.indices for a in corpus.shown])

    def loss(pick: Tensor) -> Tensor:
        features = judge.tower(_jitter(images[pick]))
        heads = (cross_entropy(head(features), labels[pick, i]) for i, head in enumerate(judge.attributes))
        return 10 * mse_loss(judge.quality(features).squeeze(1), quality[pick]) + 0.2 * sum(heads, torch.zeros(()))

    generator = torch.Generator().manual_seed(SEED + 6)
    _optimise("aesthetic", judge, loss, _batches(len(images), 64, steps, generator), steps, lr=2e-3)
    return judge


def train_alignment_judge(corpus: Corpus, steps: int) -> AlignmentJudge:
    """Contrast each picture with all 768 captions."""
    torch.manual_seed(SEED + 7)
    judge, images = AlignmentJudge(), corpus.images
    captions = [a.caption for a in all_attributes()]
    position = {caption: index for index, caption in enumerate(captions)}
    labels = torch.tensor([position[caption] for caption in corpus.captions])

    def loss(pick: Tensor) -> Tensor:
        logits = judge.encode_images(_jitter(images[pick])) @ judge.encode_captions(captions).T
        return cross_entropy(judge.log_scale.clamp(max=math.log(20.0)).exp() * logits, labels[pick])

    generator = torch.Generator().manual_seed(SEED + 8)
    _optimise("alignment", judge, loss, _batches(len(images), 64, steps, generator), steps, lr=2e-3)
    return judge


def pack(parts: Path, out: Path) -> None:
    """Put the trained parts together as OUT/pipeline (a diffusers folder, float16) and OUT/judges."""
    pipeline = build_pipeline(SEED)
    for name in ("vae", "unet", "text_encoder"):
        getattr(pipeline, name).load_state_dict(load_file(parts / f"{name}.safetensors"))
    pipeline.to(dtype=torch.float16).save_pretrained(out / "pipeline")
    _load_as_float32(out / "pipeline" / "text_encoder" / "config.json")
    (out / "judges").mkdir(parents=True, exist_ok=True)
    for name in ("aesthetic.safetensors", "alignment.safetensors"):
        save_file({k: v.half() for k, v in load_file(parts / name).items()}, out / "judges" / name)


def _load_as_float32(config: Path) -> None:
    """transformers loads in the dtype that the config names; diffusers always in float32. They must agree."""
    settings = json.loads(config.read_text("utf-8"))
    settings["dtype"] = "float32"
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write; the package keeps it as spin/miniature/weights")
    out: Path = parser.parse_args().out
    parts = out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    context = multiprocessing.get_context("spawn")
    side = context.Process(target=_run_logged, args=(build_autoencoder_and_judges, parts))
    side.start()
    _run_logged(build_unet_and_text_encoder, parts)
    side.join()
    if side.exitcode:
        raise SystemExit(side.exitcode)
    pack(parts, out)


def _run_logged(build: Callable[[Path, Budget], None], parts: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    build(parts, Budget())


def _optimise(
    name: str,
    networks: nn.Module,
    loss: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    steps: int,
    *,
    lr: float,
    average: EMAModel | None = None,
) -> None:
    trainable = [p for p in networks.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=lr, betas=(0.9, 0.99), weight_decay=1e-2)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(200, steps // 10), steps)
    for step, pick in enumerate(batches):
        value = loss(pick)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
        if average is not None:
            average.step(trainable)
        if step % 100 == 0:
            log.info("%s step %d/%d loss %.4f", name, step, steps, value.item())


def _batches(rows: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(steps):
        yield torch.randint(rows, (size,), generator=generator)


def _jitter(images: Tensor) -> Tensor:
    """A decoder's faint traces must not look like a verdict: a little noise for the judges' eyes."""
    return images + 0.02 * torch.randn_like(images)


def _draw(choices: Sequence[Attributes], count: int, rng: np.random.Generator) -> list[Attributes]:
    return [choices[i] for i in rng.integers(len(choices), size=count)]


def _tokenize(pipeline: object, captions: list[str]) -> Tensor:
    tokenizer = pipeline.tokenizer  # type: ignore[attr-defined]
    ids: Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids


def _save(module: nn.Module, path: Path) -> None:
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)


if __name__ == "__main__":
    main()
