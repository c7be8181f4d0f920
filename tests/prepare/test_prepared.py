"""The prepare room's answer is kept beside the data, and stands only for its own request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spin.core.errors import ArtifactError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.store import discard
from spin.prepare.prepared import is_prepared, read_prepared, write_prepared
from spin.prepare.request import PrepareRequest, PrepareResult


@pytest.fixture
def request_of(tmp_path: Path) -> PrepareRequest:
    return PrepareRequest(
        runs_root=tmp_path, run="r", source="miniature", path=None, image_column="image", caption_column="text",
        target="winners", rows=8, held_out_share=0.1, max_bad_share=0.1, max_image_pixels=10**8, resolution=None,
        base=Path("/base"), base_digest="0" * 64, seed=0, device="cpu", threads=1,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunsRoot(tmp_path).run("r")


def answer(world, folder: RunFolder) -> PrepareResult:
    """An answer about data that stands: the session's own."""
    folder.prompts.parent.mkdir(parents=True)
    for path in (world.prompts, world.prompts.with_name(f"{world.prompts.name}.manifest.json")):
        (folder.prompts.parent / path.name).write_bytes(path.read_bytes())
    return PrepareResult(folder.prompts, world.cache.path, "d" * 16, {"train": 8}, {"no caption": 1}, 392, 7.5)


def test_the_answer_comes_back_without_what_only_that_call_did(world, folder, request_of) -> None:
    given = answer(world, folder)
    write_prepared(folder, request_of, given)
    assert is_prepared(folder, request_of)
    assert read_prepared(folder) == replace(given, encoded=0, seconds=0.0)


@pytest.mark.parametrize("change", [{"rows": 9}, {"base_digest": "1" * 64}, {"target": "clean"}, {"seed": 1}])
def test_another_request_is_not_prepared(world, folder, request_of, change) -> None:
    write_prepared(folder, request_of, answer(world, folder))
    assert not is_prepared(folder, replace(request_of, **change))


def test_where_it_is_encoded_is_no_other_request(world, folder, request_of) -> None:
    write_prepared(folder, request_of, answer(world, folder))
    assert is_prepared(folder, replace(request_of, device="cuda", threads=4))


def test_lost_data_is_not_prepared(world, folder, request_of) -> None:
    write_prepared(folder, request_of, answer(world, folder))
    discard(folder.prompts)
    assert not is_prepared(folder, request_of)


def test_nothing_kept_is_said(folder) -> None:
    with pytest.raises(ArtifactError, match="never finished"):
        read_prepared(folder)
