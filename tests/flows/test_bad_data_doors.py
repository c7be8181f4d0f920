"""Bad pictures, captions, folders and disks through the command line: one line, exit code 2, nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spin.core.layout import RunsRoot
from spin.core.schema import read_table
from tests.digits import export_digits, export_digits_table
from tests.flows.command_line import start_script, type_in
from tests.world import fingerprint

pytestmark = pytest.mark.system

SHORT = ("iterations=0", "sft.steps=1", "sft.batch_size=4", "evaluation.num_inference_steps=1",
         "evaluation.prompts=2", "evaluation.batch_size=4", "evaluation.denoising_draws=1")  # fmt: skip
SETTINGS = tuple(word for text in SHORT for word in ("--set", text))


def setting(*texts: str) -> tuple[str, ...]:
    return (*SETTINGS, *(word for text in texts for word in ("--set", text)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with twelve good scans in `digits` and the config that init wrote for them."""
    export_digits(tmp_path / "digits", 12)
    assert type_in(tmp_path, "init", "digits").code == 0
    return tmp_path


def test_a_missing_folder_is_named(folder: Path) -> None:
    line = type_in(folder, "run", "spin.yaml", *setting("data.path=nowhere")).line
    assert line == f"{folder}/nowhere: no such folder; set data.path to the folder with the pictures"


def test_a_file_instead_of_a_folder_is_named(folder: Path) -> None:
    line = type_in(folder, "run", "spin.yaml", *setting("data.path=digits/digit-0000.png")).line
    assert "digit-0000.png: is a file, not a folder; set data.path to the folder around it" in line


def test_an_empty_folder_is_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    line = type_in(folder, "run", "spin.yaml", *setting("data.path=empty")).line
    assert line.startswith(f"{folder}/empty: holds no pictures; set data.path")
    assert "neither pictures nor Parquet or tar files" in type_in(folder, "init", "empty", "--config", "b.yaml").line


def test_a_folder_without_captions_says_how_to_write_them(folder: Path) -> None:
    (folder / "digits" / "metadata.jsonl").unlink()
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert line.startswith(f"{folder}/digits: 12 pictures, but no captions; add metadata.jsonl")


def test_a_wrong_caption_column_names_those_that_are(folder: Path) -> None:
    line = type_in(folder, "run", "spin.yaml", *setting("data.caption_column=texts")).line
    assert "metadata.jsonl: no column 'texts'; columns are file_name, text" in line
    assert "did you mean data.caption_column=text?" in line


def test_a_broken_line_of_metadata_is_named_by_its_number(folder: Path) -> None:
    with (folder / "digits" / "metadata.jsonl").open("a") as stream:
        stream.write('{"file_name": \n')
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert "metadata.jsonl:13: bad JSON" in line
    assert "mend or remove the line" in line


def test_nothing_but_broken_pictures_are_counted_and_listed(folder: Path) -> None:
    for picture in (folder / "digits").glob("*.png"):
        picture.write_bytes(b"not a picture")
    before = fingerprint(folder / "digits")
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert "digits: 12 of 12 rows cannot be used (12 unreadable); first: metadata.jsonl:1" in line
    quarantine = RunsRoot(folder / "runs").run("digits").quarantine
    assert str(quarantine) in line
    assert read_table(quarantine).num_rows == 12
    assert fingerprint(folder / "digits") == before


def test_more_bad_rows_than_allowed_say_which_setting_allows_more(folder: Path) -> None:
    for number in range(2):
        (folder / "digits" / f"digit-000{number}.png").write_bytes(b"")
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert "2 of 12 rows cannot be used" in line
    assert "or raise data.max_bad_share from 0.1" in line


def test_too_few_pictures_are_refused_with_the_number_needed(folder: Path) -> None:
    export_digits(folder / "few", 5)
    line = type_in(folder, "run", "spin.yaml", *setting("data.path=few")).line
    assert "5 usable rows; a held-out part needs 8; add pictures" in line


def test_a_parquet_file_that_is_none_is_named(folder: Path) -> None:
    (folder / "table.parquet").write_bytes(b"PAR1 but not really PAR1")
    line = type_in(folder, "run", "spin.yaml", *setting("data.source=parquet", "data.path=table.parquet")).line
    assert "table.parquet" in line


def test_a_wrong_image_column_of_a_parquet_file_names_those_that_are(folder: Path) -> None:
    export_digits_table(folder / "table.parquet", 12)
    settings = setting("data.source=parquet", "data.path=table.parquet", "data.image_column=picture")
    line = type_in(folder, "run", "spin.yaml", *settings).line
    assert "table.parquet" in line
    assert "no column 'picture'; columns are image, text" in line


@pytest.mark.parametrize("base", ["nowhere", "digits"])
def test_a_model_that_is_none_is_refused_by_its_setting(
    folder: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = type_in(folder, "run", "spin.yaml", *setting(f"model.base={base}")).line
    assert base in line
    assert "model.base" in line


@pytest.mark.parametrize("root", ["taken", "taken/runs", "/proc/runs"])
def test_a_runs_root_that_cannot_be_made_is_refused_before_anything_starts(folder: Path, root: str) -> None:
    (folder / "taken").write_text("a file")
    line = type_in(folder, "run", "spin.yaml", *setting(f"run.root={root}")).line
    assert line.startswith(f"{folder / root}: cannot be made")
    assert line.endswith("set run.root")
    assert (folder / "taken").read_text() == "a file"


def test_a_file_in_the_place_of_prefects_folder_is_refused_before_a_server_starts(folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / ".prefect").write_text("mine")
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert line == f"{folder}/runs/.prefect: cannot write: File exists; give rights or set run.root"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_runs_root_without_rights_is_refused_before_a_server_starts(folder: Path) -> None:
    (folder / "runs").mkdir(mode=0o555)
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert line == f"{folder}/runs/.prefect: cannot write: Permission denied; give rights or set run.root"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "http://127.0.0.1:nine/api", "nonsense"])
def test_a_prefect_server_that_is_not_there_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PREFECT_API_URL", address)
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert line.startswith(f"PREFECT_API_URL: no Prefect server answers at {address}: ")
    assert "unset PREFECT_API_URL" in line


def test_a_file_in_the_place_of_a_run_is_left_alone(folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "digits").write_text("mine")
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert line == f"{folder}/runs/digits: is a file, not the folder of a run; choose another run.name"
    assert (folder / "runs" / "digits").read_text() == "mine"


def test_a_damaged_record_is_named_and_kept(folder: Path) -> None:
    record = folder / "runs" / "digits" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"run": "digits", ')
    for command in (
        ("run", "spin.yaml"),
        ("status", "digits"),
        ("evaluate", "digits"),
        ("sample-shard", "digits", "1", "0"),
    ):
        assert type_in(folder, *command).line == f"{record}: is damaged; restore it or start a new run"
    assert record.read_text() == '{"run": "digits", '


def test_a_full_disk_is_refused_before_anything_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10 * 2**20))
    line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    assert line == f"{folder}/runs: only 10 MiB free; free space or set run.root"


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """This process cannot write a larger file: what a full disk or a quota does in the middle of a run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_in_the_middle_loses_nothing(folder: Path) -> None:
    with files_up_to(4 * 2**20):  # less than the weights of a UNet
        line = type_in(folder, "run", "spin.yaml", *SETTINGS).line
    run = RunsRoot(folder / "runs").run("digits")
    assert str(run.sft.path) in line
    assert "cannot write: File too large" in line
    assert not run.sft.checkpoint(1).exists()
    resumed = type_in(folder, "run", "spin.yaml", *SETTINGS)
    assert (resumed.code, resumed.err) == (0, "")
    assert "1 optimizer steps" in resumed.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("data.path=nowhere",), "no such folder"),
        (("data.caption_column=texts",), "did you mean data.caption_column=text?"),
        (("data.path=nowhere", "execution.room=process"), "no such folder"),
    ],
)
def test_the_installed_script_prints_the_line_of_a_flow_and_nothing_else(
    folder: Path, texts: tuple[str, ...], words: str
) -> None:
    answer = start_script(folder, "run", "spin.yaml", *setting(*texts))
    assert words in answer.line
    assert answer.err.count("\n") == 1
