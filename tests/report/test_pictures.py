import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from spin.core import schema
from spin.core.layout import RealCache
from spin.core.plan import identity_hash
from spin.report.grid import grid_png
from spin.report.pictures import Picture, choose_prompts, decode, picture_grid
from spin.report.reading import read_run
from tests.report.conftest import commit_rows, png


def test_prompts_are_the_first_by_the_hash_of_their_caption():
    captions = {f"id{n}": f"caption {n}" for n in range(40)}
    expected = sorted(captions, key=lambda prompt: identity_hash("prompt", captions[prompt]))[:12]
    assert choose_prompts(captions) == expected
    assert choose_prompts(dict(reversed(captions.items()))) == expected


def test_a_caption_is_shown_once():
    assert len(choose_prompts({"a": "same", "b": "same", "c": "other"})) == 2


def test_real_images_stand_first_then_models_from_the_base_on(finished_run):
    grid = picture_grid(read_run(runs_root=finished_run.root, run="miniature"))
    assert grid.headings == ("real image", "base", "SFT", "SPIN 1", "SPIN 2", "SPIN 3")
    assert len(grid.rows) == 12
    assert all(len(row.pictures) == 6 for row in grid.rows)


def test_models_are_shown_at_equal_seeds_with_their_own_scores(finished_run):
    grid = picture_grid(read_run(runs_root=finished_run.root, run="miniature"))
    row = grid.rows[0]
    assert len({picture.seed for picture in row.pictures}) == 1
    index = finished_run.prompt_ids.index(row.prompt_id)
    shown = dict(row.pictures[2].scores)
    assert shown["aesthetic"] == pytest.approx(finished_run.values("sft", "aesthetic")[index])


def test_pixels_survive_unchanged_in_the_page(finished_run):
    picture = picture_grid(read_run(runs_root=finished_run.root, run="miniature")).rows[0].pictures[0]
    raw = base64.b64decode(picture.uri.removeprefix("data:image/png;base64,"))
    assert picture.is_pixel_art
    assert (np.asarray(Image.open(io.BytesIO(raw))) == np.asarray(picture.image)).all()


def test_large_pictures_become_small_jpegs():
    picture = Picture(Image.new("RGB", (1024, 512), "teal"), 1, ())
    assert picture.uri.startswith("data:image/jpeg;base64,")
    assert not picture.is_pixel_art
    assert Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).size == (256, 128)


def test_bytes_that_are_no_picture_leave_a_gap():
    assert decode(b"no picture") is None
    assert decode(None) is None
    assert decode({"bytes": png(np.zeros((4, 4, 3), np.uint8))}).size == (4, 4)


def test_real_images_come_from_the_held_out_cache_where_the_data_has_none(builder):
    builder.stages = ("base",)
    builder.build()
    cache = RealCache(builder.root / "cache" / "real" / "abc")
    fields = [pa.field("sample_id", pa.string()), pa.field("caption", pa.string()), pa.field("split", pa.string())]
    columns = schema.image_schema([*fields, pa.field("image", schema.IMAGE_TYPE)], ["image"])
    red = png(np.full((8, 8, 3), (255, 0, 0), np.uint8))
    rows = [
        {"sample_id": prompt, "caption": caption, "split": "test", "image": {"bytes": red, "path": None}}
        for prompt, caption in zip(builder.prompt_ids, builder.captions, strict=True)
    ]
    commit_rows(cache.held_out_images, columns, rows, "held-out")
    record = builder.record()
    builder.write_record(record | {"real": "cache/real/abc", "data": {"label": "data", "evaluation": None}})
    grid = picture_grid(read_run(runs_root=builder.root, run="miniature"))
    assert grid.has_real
    assert grid.rows[0].pictures[0].image.getpixel((0, 0)) == (255, 0, 0)


def test_the_png_scales_small_pictures_with_sharp_edges(finished_run):
    grid = picture_grid(read_run(runs_root=finished_run.root, run="miniature"))
    sheet = np.asarray(Image.open(io.BytesIO(grid_png(grid))).convert("RGB"))
    left, top = 24 + 232, 24 + 40
    cell = sheet[top : top + 128, left : left + 128]
    assert (cell[::4, ::4] == np.asarray(grid.rows[0].pictures[0].image)).all()
    assert (cell.reshape(32, 4, 32, 4, 3) == cell[::4, ::4][:, None, :, None]).all()


def test_a_very_long_caption_stays_in_its_column(finished_run):
    grid = picture_grid(read_run(runs_root=finished_run.root, run="miniature"))
    long = type(grid.rows[0])("x", "word " * 200 + "w" * 300, grid.rows[0].pictures)
    sheet = grid_png(type(grid)(grid.headings, (long,), grid.has_real))
    assert np.asarray(Image.open(io.BytesIO(sheet)))[60:, 236:256].min() == 255
