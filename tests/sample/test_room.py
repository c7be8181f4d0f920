from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import process_time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spin.core import environment
from spin.core.approximation import EXACT, Approximation
from spin.core.errors import ArtifactError, ConfigError, SamplingError
from spin.core.layout import StageFolder
from spin.core.planning import read_plan
from spin.core.requests import from_text, to_json
from spin.core.schema import add_digests, read_table, read_tensors, write_table
from spin.core.store import discard, read_manifest
from spin.diffusion.checkpoint import load_vae
from spin.diffusion.noise import initial_noise
from spin.diffusion.sampler import encode_images
from spin.sample import opponent as opponents
from spin.sample import room
from spin.sample.opponent import Opponent
from spin.sample.request import SampleRequest
from spin.sample.room import run
from tests.kernels import FLASH, heard
from tests.world import ROWS, World, copy_stage


@contextmanager
def counted_forwards() -> Iterator[list[tuple[int, ...]]]:
    """Shapes of all UNet inputs while it runs, of any UNet."""
    seen: list[tuple[int, ...]] = []

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module).__name__ == "UNet2DConditionModel":
            seen.append(tuple(inputs[0].shape))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def values(stage: StageFolder, column: str) -> dict[str, bytes]:
    """Bytes of a column by sample id, over all shards."""
    found = {}
    for shard in range(read_plan(stage).shards):
        table = read_table(stage.samples(shard))
        ids, arrays = table["sample_id"].to_pylist(), read_tensors(table, column)
        found |= {name: array.tobytes() for name, array in zip(ids, arrays, strict=True)}
    return found


def whole_digest(stage: StageFolder) -> str:
    manifests = [read_manifest(stage.samples(shard)) for shard in range(read_plan(stage).shards)]
    return add_digests(manifest.content_digest for manifest in manifests if manifest)


@pytest.mark.parametrize(("guidance_scale", "rows"), [(1.0, 8), (3.0, 16)])
def test_a_step_is_one_forward_of_the_padded_batch(
    world: World, tmp_path: Path, guidance_scale: float, rows: int
) -> None:
    stage = world.stage(tmp_path, reads=13)  # batches of 8 and 5
    with counted_forwards() as seen:
        result = run(world.sample_request(stage, num_inference_steps=3, guidance_scale=guidance_scale))
    assert seen == [(rows, 16, 4, 4)] * 6
    assert (result.made, result.images) == ((0,), 13)


@pytest.mark.parametrize("loser_source", ["latents", "roundtrip"])
def test_the_bits_do_not_depend_on_the_split_into_shards(world: World, tmp_path: Path, loser_source: str) -> None:
    column = "latent" if loser_source == "latents" else "latent_mean"
    found = []
    for shards, shard_size in ((1, 24), (2, 13), (3, 9), (5, 5)):
        stage = world.stage(tmp_path / str(shards), shard_size=shard_size)
        assert read_plan(stage).shards == shards
        run(world.sample_request(stage, range(shards), loser_source=loser_source, guidance_scale=3.0))
        found.append((values(stage, column), whole_digest(stage)))
    assert len(found[0][0]) == ROWS
    assert all(other[0] == found[0][0] for other in found[1:])


def test_a_shard_holds_its_rows_of_the_plan(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path, shard_size=10)
    run(world.sample_request(stage, [1]))
    table = read_table(stage.samples(1))
    assert table["position"].to_pylist() == list(range(10, 20))
    assert table.column_names == ["position", "sample_id", "draw", "seed", "latent"]
    latents = read_tensors(table, "latent")
    assert latents.shape == (10, 16, 4, 4)
    assert np.isfinite(latents).all()
    manifest = read_manifest(stage.samples(1))
    assert manifest is not None
    assert manifest.environment["images"] == 10
    assert manifest.environment["seconds"] > 0


def test_a_finished_shard_is_never_made_again(world: World, stage: StageFolder) -> None:
    path = stage.samples(0)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with counted_forwards() as seen:
        result = run(world.sample_request(stage, num_inference_steps=4))
    assert (result.made, result.images, seen) == ((), 0, [])
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("damage", ["gone", "no manifest", "cut", "one bit"])
def test_a_lost_or_damaged_shard_is_made_again_with_the_same_bytes(
    world: World, stage: StageFolder, damage: str
) -> None:
    path = stage.samples(0)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "no manifest":
        path.with_name(f"{path.name}.manifest.json").unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    result = run(world.sample_request(stage, num_inference_steps=4))
    assert result.made == (0,)
    assert path.read_bytes() == data


def test_a_shard_is_not_made_where_the_bits_are_others_unless_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = world.stage(tmp_path, shard_size=12)
    run(world.sample_request(stage, (0, 1)))
    discard(stage.samples(1))
    monkeypatch.setattr(environment, "cpu_model", lambda: "another processor")
    line = (
        r"iteration-01: other shards were made where the bits are others .* device: cpu .* -> cpu another processor; "
    )
    with pytest.raises(ConfigError, match=line):
        run(world.sample_request(stage, (1,)))
    assert run(world.sample_request(stage, (1,), mix_classes=True)).made == (1,)
    discard(stage.samples(1))
    discard(stage.samples(0))
    assert run(world.sample_request(stage, (0, 1))).made == (0, 1)


def test_the_kernel_of_the_attention_is_the_named_one_and_of_the_class_of_equal_bits(
    world: World, tmp_path: Path
) -> None:
    stage = world.stage(tmp_path, shard_size=12)
    with heard() as names:
        run(world.sample_request(stage, (0,)))
    assert FLASH in names  # torch's own choice
    with pytest.raises(ConfigError, match=r"the bits are others .*: attention: auto -> math; "):
        run(world.sample_request(stage, (1,), attention="math"))
    with heard() as names:
        run(world.sample_request(stage, (1,), attention="math", mix_classes=True))
    assert FLASH not in names
    assert "bmm" in names
    first, second = (read_manifest(stage.samples(shard)) for shard in (0, 1))
    assert first is not None
    assert second is not None
    assert (first.environment["attention"], second.environment["attention"]) == ("auto", "math")
    assert first.identity == second.identity


def test_a_kernel_that_is_not_there_is_refused_before_a_model_loads(world: World, stage: StageFolder) -> None:
    stage.samples(0).unlink()
    with counted_loads() as loads, pytest.raises(ConfigError, match="a CPU has no cudnn kernel"):
        run(world.sample_request(stage, attention="cudnn"))
    assert loads == []


@pytest.mark.parametrize("change", [{"guidance_scale": 3.0}, {"num_inference_steps": 3}, {"store_images": True}])
def test_a_shard_of_another_sampling_gives_way(world: World, stage: StageFolder, change: dict[str, Any]) -> None:
    before = stage.samples(0).read_bytes()
    request = world.sample_request(stage, **{"num_inference_steps": 4, **change})
    assert run(request).made == (0,)
    assert stage.samples(0).read_bytes() != before
    assert run(request).made == ()


def test_the_round_trip_is_the_posterior_of_the_8_bit_picture(world: World, tmp_path: Path) -> None:
    from spin.diffusion.checkpoint import load_vae
    from spin.diffusion.sampler import decode_latents, encode_images

    one, two = world.stage(tmp_path / "one", reads=8), world.stage(tmp_path / "two", reads=8)
    run(world.sample_request(one))
    run(world.sample_request(two, loser_source="roundtrip"))
    vae = load_vae(world.base, device="cpu")
    latents = torch.from_numpy(read_tensors(read_table(one.samples(0)), "latent").copy())
    mean, log_variance = encode_images(vae, decode_latents(vae, latents))
    table = read_table(two.samples(0))
    assert np.array_equal(read_tensors(table, "latent_mean"), mean.numpy())
    assert np.array_equal(read_tensors(table, "latent_log_variance"), log_variance.numpy())
    assert "latent" not in table.column_names


@pytest.mark.parametrize("loser_source", ["latents", "roundtrip"])
def test_stored_images_open_with_datasets(world: World, tmp_path: Path, loser_source: str) -> None:
    import datasets

    stage = world.stage(tmp_path, reads=10)
    run(world.sample_request(stage, store_images=True, loser_source=loser_source, num_inference_steps=20))
    rows = datasets.load_dataset(
        "parquet", data_files=str(stage.samples(0)), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(rows) == 10
    assert rows[3]["image"].size == (32, 32)
    stored = read_table(stage.samples(0))["image"].to_pylist()[3]["bytes"]
    assert np.array_equal(np.asarray(rows[3]["image"]), np.asarray(Image.open(io.BytesIO(stored))))


def test_a_stage_without_a_plan_is_one_clear_line(world: World, tmp_path: Path) -> None:
    request = world.sample_request(StageFolder(tmp_path / "iteration-01"))
    with pytest.raises(ArtifactError, match=r"plan\.json: is not there, or was never finished; run again") as caught:
        run(request)
    assert "\n" not in str(caught.value)
    (tmp_path / "request.json").write_bytes(to_json(request))
    command = [sys.executable, "-m", "spin.sample", str(tmp_path / "request.json"), str(tmp_path / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1])["error"] == "ArtifactError"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shard", [1, -1])
def test_a_shard_that_is_not_planned_is_refused_before_a_model_loads(
    world: World, stage: StageFolder, shard: int
) -> None:
    with counted_loads() as loads, pytest.raises(ArtifactError, match=f"no shard {shard}; name a shard from 0 to 0"):
        run(world.sample_request(stage, [shard]))
    assert loads == []


def test_damaged_plan_rows_are_not_read(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path)
    data = bytearray(stage.plan_rows.read_bytes())
    data[200] ^= 1
    stage.plan_rows.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"plan\.parquet: bytes differ from the manifest"):
        run(world.sample_request(stage))


@contextmanager
def counted_loads() -> Iterator[list[object]]:
    """Starts from an empty slot; notes what was loaded."""
    loads: list[object] = []
    load = Opponent.load

    def counted(request: Any) -> Opponent:
        loads.append(request)
        return load(request)

    opponents._resident.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Opponent, "load", counted)
        yield loads


def test_the_opponent_is_loaded_once_for_all_calls(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path, shard_size=8)
    with counted_loads() as loads:
        for shard in range(3):
            run(world.sample_request(stage, [shard]))
        assert len(loads) == 1
        run(world.sample_request(stage, range(3), guidance_scale=3.0, check_images=2))  # loading depends on neither
        assert len(loads) == 1
        run(world.sample_request(stage, [0], store_images=True))  # needs the VAE
        assert len(loads) == 2
        run(world.sample_request(stage, [0], dtype="bfloat16"))
        assert len(loads) == 3
        run(world.sample_request(stage, [0], opponent_digest="another"))
        assert len(loads) == 4
        assert len(opponents._resident) == 1


def test_progress_counts_images(world: World, sampled: StageFolder, tmp_path: Path) -> None:
    stage = copy_stage(sampled, tmp_path)
    stage.samples(0).unlink()
    heard: list[tuple[int, int]] = []
    run(world.sample_request(stage), progress=lambda done, total, note="": heard.append((done, total)))
    assert heard == [(8, 24), (16, 24), (24, 24)]


def test_a_trajectory_is_kept_beside_the_same_images(world: World, tmp_path: Path) -> None:
    plain, kept = (world.stage(tmp_path / name, reads=13) for name in ("plain", "kept"))
    run(world.sample_request(plain, num_inference_steps=3))
    request = world.sample_request(kept, num_inference_steps=3, store_trajectory=True)
    run(request)
    assert values(plain, "latent") == values(kept, "latent")
    table = read_table(kept.samples(0))
    states, times = read_tensors(table, "trajectory"), read_tensors(table, "timesteps")
    assert states.shape == (13, 3, 16, 4, 4)
    assert times.tolist() == [[999, 666, 333]] * 13
    start = initial_noise(table["seed"].to_pylist(), (16, 4, 4)).numpy()
    assert np.array_equal(states[:, 0], start)
    assert read_table(plain.samples(0)).column_names == [
        name for name in table.column_names if name not in ("trajectory", "timesteps")
    ]
    checked = run(replace(request, check_images=13))
    assert (checked.checked, checked.differing) == (13, 0)


def test_another_solver_gives_other_images(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path, reads=8)
    run(world.sample_request(stage))
    first = values(stage, "latent")
    assert run(world.sample_request(stage, scheduler="ddim")).made == (0,)
    assert all(values(stage, "latent")[name] != first[name] for name in first)


def test_round_tripped_images_are_encoded_both_ways_where_training_flips(world: World, tmp_path: Path) -> None:
    stages = [world.stage(tmp_path / name, reads=13) for name in ("plain", "both")]
    for stage, mirrored in zip(stages, (False, True), strict=True):
        request = world.sample_request(stage, loser_source="roundtrip", store_images=True, store_mirrored=mirrored)
        assert run(request).images == 13
        assert run(request).images == 0
    plain, both = (read_table(stage.samples(0)) for stage in stages)
    assert [n for n in both.column_names if n not in plain.column_names] == [
        "latent_mean_mirrored", "latent_log_variance_mirrored",
    ]  # fmt: skip
    for name in ("latent_mean", "latent_log_variance"):
        assert np.array_equal(read_tensors(plain, name), read_tensors(both, name))
    pictures = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in both["image"].to_pylist()]
    mirrored = torch.from_numpy(np.stack([picture[:, ::-1] for picture in pictures]))
    mean, log_variance = encode_images(load_vae(world.base, device="cpu"), mirrored)
    np.testing.assert_allclose(read_tensors(both, "latent_mean_mirrored"), mean, atol=1e-4)
    np.testing.assert_allclose(read_tensors(both, "latent_log_variance_mirrored"), log_variance, atol=1e-4)
    checked = run(world.sample_request(stages[1], loser_source="roundtrip", store_images=True, store_mirrored=True,
                                       check_images=13))  # fmt: skip
    assert (checked.checked, checked.differing) == (13, 0)


def test_shards_of_runs_without_flips_keep_their_identity(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path, reads=13)
    run(world.sample_request(stage, loser_source="roundtrip"))
    manifest = read_manifest(stage.samples(0))
    assert manifest is not None
    assert "store_mirrored" not in manifest.identity
    assert run(world.sample_request(stage, loser_source="roundtrip", store_mirrored=True)).images == 13


def test_a_shard_is_written_while_the_next_one_is_drawn(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, drawn, written = world.stage(tmp_path, shard_size=8), Event(), []

    def write(path: Path, table: Any) -> None:
        # Of three shards the first would wait for ever here, were the second not drawn meanwhile.
        assert drawn.wait(60)
        write_table(path, table)
        written.append(len(table))

    def hear(done: int, total: int, note: str = "") -> None:
        if done == 16:
            assert written == []
            drawn.set()

    monkeypatch.setattr(room, "write_table", write)
    assert run(world.sample_request(stage, range(3)), progress=hear).made == (0, 1, 2)
    assert written == [8, 8, 8]


def test_a_shard_that_cannot_be_written_is_named_and_those_before_it_stand(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = world.stage(tmp_path, shard_size=6)

    def write(path: Path, table: Any) -> None:
        if "shard-00001" in path.name:
            raise OSError(28, "No space left on device")
        write_table(path, table)

    monkeypatch.setattr(room, "write_table", write)
    with pytest.raises(ArtifactError, match=r"shard-00001\.parquet: cannot write: No space left on device"):
        run(world.sample_request(stage, range(4)))
    standing = [path.name for path in stage.samples(0).parent.iterdir() if path.suffix == ".parquet"]
    assert standing == ["shard-00000.parquet"]
    monkeypatch.setattr(room, "write_table", write_table)
    assert run(world.sample_request(stage, range(4))).made == (1, 2, 3)


def test_shards_before_one_that_is_not_finite_are_committed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, draw = world.stage(tmp_path, shard_size=8), opponents.initial_noise
    broken = read_table(stage.plan_rows)["seed"].to_pylist()[17]

    def noise(seeds: list[int], shape: tuple[int, ...]) -> torch.Tensor:
        values = draw(seeds, shape)
        values[[seed == broken for seed in seeds]] = torch.nan
        return values

    monkeypatch.setattr(opponents, "initial_noise", noise)
    with pytest.raises(SamplingError, match="latents of 1 images"):
        run(world.sample_request(stage, range(3)))
    assert [stage.samples(shard).exists() for shard in range(3)] == [True, True, False]
    monkeypatch.undo()
    assert run(world.sample_request(stage, range(3))).made == (2,)


def test_durations_of_shards_add_up_to_no_more_than_the_call(world: World, tmp_path: Path) -> None:
    stage, before = world.stage(tmp_path, shard_size=6), process_time()
    result = run(world.sample_request(stage, range(4)))
    found = [manifest.environment for shard in range(4) if (manifest := read_manifest(stage.samples(shard)))]
    assert all(made["seconds"] > 0 and made["device_seconds"] > 0 for made in found)
    assert sum(made["seconds"] for made in found) < result.seconds
    assert sum(made["device_seconds"] for made in found) < process_time() - before


def test_what_sampling_leaves_out_is_in_the_manifest_and_a_shard_of_its_own(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path)
    exact = world.sample_request(stage, num_inference_steps=4, guidance_scale=2.0)
    run(exact)
    plain = read_manifest(stage.samples(0))
    approximated = replace(exact, approximation=Approximation((0.25, 0.75), 2))
    assert run(approximated).made == (0,)
    found = read_manifest(stage.samples(0))
    assert plain is not None
    assert found is not None
    assert set(found.identity) - set(plain.identity) == {"guidance_interval", "reuse_every"}
    assert (found.identity["guidance_interval"], found.identity["reuse_every"]) == ([0.25, 0.75], 2)
    assert found.content_digest != plain.content_digest
    assert run(approximated).made == ()  # it stands
    assert run(replace(approximated, check_images=4)).differing == 0  # drawn again it is the same
    assert run(replace(exact, approximation=EXACT)).made == (0,)


def test_a_request_with_approximations_comes_back_from_json(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path)
    asked = world.sample_request(stage, approximation=Approximation((0.25, 0.75), 2))
    assert from_text(SampleRequest, to_json(asked), where="test") == asked
    assert from_text(SampleRequest, to_json(world.sample_request(stage)), where="test").approximation == EXACT
