"""What of data from elsewhere is still to be copied, without asking there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.forecast_copy import Copy, copy_of
from spin.core.config import Config, load_config
from spin.core.layout import RunsRoot
from spin.core.plan import identity_hash

PAPER = "yuvalkirstain/pickapic_v2"


def config(root: Path, *overrides: str) -> Config:
    return load_config("sd15-paper", overrides=[f"run.root={root}", *overrides])


@pytest.mark.parametrize("pairs", [False, True])
def test_pick_a_pic_is_as_large_as_its_card_says(tmp_path: Path, pairs: bool) -> None:
    found = copy_of(config(tmp_path, f"data.pairs={str(pairs).lower()}"))
    assert found is not None
    # 322.0 GB of 959,040 pairs, of which 851,293 have a winner; one picture of each, or two
    assert found.missing_bytes == pytest.approx(322.02e9 * 851_293 / 959_040 / (1 if pairs else 2), rel=1e-4)
    assert found.told == "the copy of the data by its card, 322 GB of 959,040 pairs"
    assert copy_of(config(tmp_path, f"data.path={PAPER}@main", f"data.pairs={str(pairs).lower()}")) == found


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (("data.path=someone/else",), "someone/else"),
        (("data.source=webdataset", "data.path=https://host/a.tar?token=secret"), "https://host/a.tar"),
    ],
)
def test_what_only_the_network_knows_is_said(tmp_path: Path, overrides: tuple[str, ...], place: str) -> None:
    told = f"the copy of {place} comes on top, of a size that only the network tells"
    assert copy_of(config(tmp_path, *overrides)) == Copy(None, told)


def test_what_lies_on_this_machine_is_not_copied(tmp_path: Path) -> None:
    assert copy_of(config(tmp_path, f"data.path={tmp_path}")) is None
    assert copy_of(load_config("miniature")) is None


def test_what_stands_of_a_copy_is_not_copied_again(tmp_path: Path) -> None:
    url = "https://host/all"
    folder = RunsRoot(tmp_path).source("webdataset", identity_hash("url", url, "webdataset"))
    folder.files.mkdir(parents=True)
    folder.listing.write_text(json.dumps({"a.tar": ["1", 2**20], "b.tar": ["1", 3 * 2**20]}), "utf-8")
    (folder.files / "a.tar").write_bytes(bytes(2**20))
    asked = config(tmp_path, "data.source=webdataset", f"data.path={url}")
    assert copy_of(asked) == Copy(3 * 2**20, "1 MiB of the copy of the data stand already")
    (folder.files / "b.tar").write_bytes(bytes(3 * 2**20))
    assert copy_of(asked) == Copy(0, "the copy of the data stands already, 4 MiB")
