from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spin.core.errors import DataError
from spin.core.layout import RealCache, RunsRoot
from spin.core.requests import to_json
from spin.core.schema import read_table, read_tensors
from spin.core.store import is_intact
from spin.miniature.dataset import draw_picture
from spin.miniature.world import split_attributes
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run
from tests.digits import digits, export_digits, export_digits_table

MakeRequest = Callable[..., PrepareRequest]
Fingerprint = Callable[[Path], dict[str, tuple[str, int]]]
WriteFolder = Callable[..., Path]


def test_the_miniature_is_prepared_whole(make_request: MakeRequest) -> None:
    result = run(make_request(source="miniature", rows=20))
    assert result.rows == {"train": 20, "validation": 128, "test": 256}
    assert result.encoded == 404
    assert result.quarantined == {}
    cache = RealCache(result.real)
    assert all(is_intact(path) for path in (result.prompts, cache.latents, cache.text, cache.held_out_images))
    prompts = read_table(result.prompts)
    expected = [
        a.caption for s in ("train", "validation", "test") for a in split_attributes(s)[: 20 if s == "train" else None]
    ]
    assert prompts["caption"].to_pylist() == expected
    assert read_table(RealCache(result.real).latents)["sample_id"].to_pylist() == prompts["sample_id"].to_pylist()
    assert set(prompts["prompt_hash"].to_pylist()) < set(
        read_table(RealCache(result.real).text)["prompt_hash"].to_pylist()
    )


def test_held_out_pictures_of_the_miniature_keep_every_pixel(make_request: MakeRequest) -> None:
    import datasets

    result = run(make_request(source="miniature", rows=8))
    file = RealCache(result.real).held_out_images
    rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(result.real.parent / "hf"))
    assert [row["split"] for row in rows] == ["validation"] * 128 + ["test"] * 256
    said = split_attributes("validation")[3]
    assert rows[3]["caption"] == said.caption
    assert np.array_equal(np.asarray(rows[3]["image"]), draw_picture(said, split="validation", target="winners").pixels)


@pytest.mark.system
def test_the_data_do_not_depend_on_the_runs_seed_but_on_the_target(make_request: MakeRequest) -> None:
    one = run(make_request(source="miniature", rows=8))
    two = run(make_request(source="miniature", rows=8, seed=1, run="other"))
    clean = run(make_request(source="miniature", rows=8, run="clean", target="clean"))
    assert (two.data_digest, two.real, two.encoded) == (one.data_digest, one.real, 0)
    assert clean.data_digest != one.data_digest
    assert read_table(two.prompts) == read_table(one.prompts)


@pytest.mark.parametrize("source", ["imagefolder", "parquet"])
def test_own_pictures_are_prepared_whole(make_request: MakeRequest, tmp_path: Path, source: str) -> None:
    if source == "imagefolder":
        path = export_digits(tmp_path / "digits", 100)
    else:
        path = export_digits_table(tmp_path / "digits.parquet", 100)
    result = run(make_request(source=source, path=path))
    prompts = read_table(result.prompts)
    assert sum(result.rows.values()) == result.encoded == 100
    assert prompts["sample_id"].to_pylist() == sorted(prompts["sample_id"].to_pylist())
    assert read_table(RealCache(result.real).text).num_rows == 11  # ten digits and the empty caption
    held_out = read_table(RealCache(result.real).held_out_images).to_pylist()
    expected = [(r["sample_id"], r["split"]) for r in prompts.to_pylist() if r["split"] != "train"]
    assert [(r["sample_id"], r["split"]) for r in held_out] == expected
    contents = {(content, caption) for content, caption in digits(100)}
    pixels = {(np.asarray(Image.open(io.BytesIO(c)).convert("RGB")).tobytes(), t) for c, t in contents}
    assert all(
        (np.asarray(Image.open(io.BytesIO(r["image"]["bytes"]))).tobytes(), r["caption"]) in pixels for r in held_out
    )


def test_the_order_on_disk_changes_neither_digest_nor_latents(make_request: MakeRequest, tmp_path: Path) -> None:
    one = export_digits(tmp_path / "one", 70)
    two = export_digits(tmp_path / "two", 70)
    lines = (two / "metadata.jsonl").read_text("utf-8").splitlines(keepends=True)
    (two / "metadata.jsonl").write_text("".join(sorted(lines, key=lambda line: hashlib.sha256(line.encode()).digest())))
    results = [run(make_request(path=path, runs_root=tmp_path / f"runs-{path.name}")) for path in (one, two)]
    assert results[0].data_digest == results[1].data_digest
    assert (results[0].real / "real.parquet").read_bytes() == (results[1].real / "real.parquet").read_bytes()


def test_pictures_are_resized_to_the_models_resolution(make_request: MakeRequest, tmp_path: Path) -> None:
    made = run(make_request(path=export_digits(tmp_path / "digits", 12)))
    assert read_tensors(read_table(RealCache(made.real).latents), "latent_mean").shape == (12, 16, 4, 4)
    image = read_table(RealCache(made.real).held_out_images).to_pylist()[0]["image"]
    assert Image.open(io.BytesIO(image["bytes"])).size == (32, 32)


@pytest.mark.parametrize("source", ["miniature", "imagefolder"])
def test_a_second_call_does_not_even_import_torch(make_request: MakeRequest, tmp_path: Path, source: str) -> None:
    request = make_request(source=source, rows=12, path=export_digits(tmp_path / "digits", 12))
    run(request)
    (tmp_path / "request.json").write_bytes(to_json(request))
    program = (
        "import sys; from pathlib import Path; from spin.core.requests import from_json;"
        "from spin.prepare.request import PrepareRequest; from spin.prepare.room import run;"
        f"result = run(from_json(PrepareRequest, Path({str(tmp_path / 'request.json')!r})));"
        "print(result.encoded, [m for m in ('torch', 'diffusers', 'transformers', 'datasets') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "0 []"


@pytest.mark.parametrize("source", ["imagefolder", "parquet"])
def test_a_users_files_are_never_touched(
    make_request: MakeRequest, tmp_path: Path, source: str, fingerprint: Fingerprint
) -> None:
    path = export_digits(tmp_path / "own" / "digits", 12)
    export_digits_table(tmp_path / "own" / "tables" / "d.parquet", 12)
    before = fingerprint(tmp_path / "own")
    run(make_request(source=source, path=path if source == "imagefolder" else tmp_path / "own" / "tables"))
    assert fingerprint(tmp_path / "own") == before


def test_reading_parquet_leaves_nothing_in_the_users_home(tmp_path: Path) -> None:
    file = export_digits_table(tmp_path / "own" / "d.parquet", 12)
    program = (
        "from pathlib import Path; from spin.prepare.parquet_files import open_parquet_files as o;"
        f"print(len(list(o(Path({str(file)!r}), image_column='image', caption_column='text')())))"
    )
    places = {name: str(tmp_path / "home") for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **places}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "12"
    assert done.stderr == ""
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_read_only_data_are_enough(make_request: MakeRequest, tmp_path: Path) -> None:
    path = export_digits(tmp_path / "digits", 12)
    for file in (*path.iterdir(), path):
        file.chmod(0o555 if file.is_dir() else 0o444)
    assert run(make_request(path=path)).encoded == 12


def test_reading_parquet_asks_nothing_of_the_network(
    make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: asked.append(args) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    run(make_request(source="parquet", path=export_digits_table(tmp_path / "d.parquet", 12)))
    assert asked == []


def test_bad_rows_are_left_out_and_listed(make_request: MakeRequest, write_folder: WriteFolder) -> None:
    pictures = {f"{i}.png": content for i, (content, _) in enumerate(digits(20))}
    request = make_request(path=write_folder({**pictures, "bad.png": b"no picture"}))
    result = run(request)
    assert result.quarantined == {"unreadable": 1}
    assert sum(result.rows.values()) == 20
    quarantine = RunsRoot(request.runs_root).run(request.run).quarantine
    expected = {"origin": "metadata.jsonl:21", "reason": "unreadable", "detail": "10 bytes that are no picture"}
    assert read_table(quarantine).to_pylist() == [expected]


def test_too_many_bad_rows_stop_the_run_but_leave_the_list(
    make_request: MakeRequest, write_folder: WriteFolder
) -> None:
    pictures = {f"{i}.png": content for i, (content, _) in enumerate(digits(8))}
    request = make_request(path=write_folder({**pictures, "bad.png": b"no picture"}))
    folder = RunsRoot(request.runs_root).run(request.run)
    with pytest.raises(
        DataError, match=r"1 of 9 rows cannot be used \(1 unreadable\).*raise data.max_bad_share from 0.1"
    ):
        run(request)
    assert read_table(folder.quarantine).num_rows == 1
    assert not folder.prompts.exists()
    assert sum(run(dataclasses.replace(request, max_bad_share=0.2)).rows.values()) == 8


def test_too_few_rows_stop_the_run(make_request: MakeRequest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="7 usable rows; a held-out part needs 8"):
        run(make_request(path=export_digits(tmp_path / "digits", 7)))


def test_a_prepared_run_keeps_its_data(make_request: MakeRequest, tmp_path: Path) -> None:
    path = export_digits(tmp_path / "digits", 12)
    result = run(make_request(path=path))
    before = result.prompts.read_bytes()
    export_digits(path, 13)
    with pytest.raises(DataError, match=r"run try was prepared from other data .*; choose another run.name"):
        run(make_request(path=path))
    assert result.prompts.read_bytes() == before
    assert sum(run(make_request(path=path, run="next")).rows.values()) == 13


def test_damaged_prompts_are_made_again(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(path=export_digits(tmp_path / "digits", 12))
    result = run(request)
    content = result.prompts.read_bytes()
    result.prompts.write_bytes(content[:-5])
    assert run(request).encoded == 0
    assert result.prompts.read_bytes() == content
