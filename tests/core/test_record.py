from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from spin.core import record as records
from spin.core.config import Config, load_config
from spin.core.config_identity import config_to_json
from spin.core.environment import code_version
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.record import newest_run, open_record, read_record, recorded_config, relative, run_names, write_record


def mini(*overrides: str) -> Config:
    return load_config("miniature", overrides=["run.name=try", *overrides])


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunsRoot(tmp_path).run("try")


@pytest.fixture
def started(folder: RunFolder) -> RunFolder:
    write_record(folder, open_record(folder, mini()))
    return folder


def test_a_new_record_holds_the_config_and_the_versions_and_is_not_yet_written(folder: RunFolder) -> None:
    record = open_record(folder, mini())
    assert record["run"] == "try"
    assert record["config"] == config_to_json(mini())
    assert record["code_version"] == code_version()
    assert record["stages"] == []
    assert not folder.record.exists()


def test_a_record_comes_back_as_it_was_written(started: RunFolder) -> None:
    record = open_record(started, mini())
    record["stages"].append({"name": "base", "digest": "d"})
    write_record(started, record)
    assert open_record(started, mini()) == read_record(started) == record
    assert recorded_config(started) == mini()
    assert [path.name for path in started.path.iterdir()] == ["run.json"]


def test_a_changed_config_is_refused_field_by_field(started: RunFolder) -> None:
    with pytest.raises(ConfigError) as error:
        open_record(started, mini("train.beta=2000", "iterations=2"))
    text = str(error.value)
    assert text.startswith(f"{started.record}: run 'try' exists with another config or code:\n")
    assert "  iterations: 3 -> 2\n" in text
    assert "train.beta: " in text
    assert "--set run.name=NAME" in text


def test_changed_code_is_refused_too(started: RunFolder) -> None:
    record = read_record(started) | {"code_version": "0.0.1"}
    write_record(started, record)
    with pytest.raises(ConfigError, match=rf"code_version: 0\.0\.1 -> {re.escape(code_version())}"):
        open_record(started, mini())


def test_where_and_how_a_run_is_executed_may_change(started: RunFolder) -> None:
    assert open_record(started, mini("run.root=elsewhere", "execution.room=process"))["run"] == "try"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"run": "try"}', "\udcff"])
def test_a_damaged_record_is_one_line(started: RunFolder, content: str) -> None:
    started.record.write_bytes(content.encode("utf-8", "surrogateescape"))
    for read in (read_record, recorded_config, lambda folder: open_record(folder, mini())):
        with pytest.raises(ArtifactError) as error:
            read(started)
        assert str(error.value) == f"{started.record}: is damaged; restore it or start a new run"


def test_an_unknown_run_is_refused_with_the_names_that_there_are(started: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"no run 'other' in .*; runs there: try$"):
        read_record(started.root.run("other"))
    with pytest.raises(ConfigError, match=r"runs there: none yet$"):
        read_record(RunsRoot(started.path / "nowhere").run("other"))


def test_runs_are_listed_by_their_records(started: RunFolder) -> None:
    write_record(started.root.run("another"), {"run": "another"})
    (started.root.path / "cache").mkdir()
    assert run_names(started.root) == ["another", "try"]


def test_a_path_in_a_record_is_relative_to_the_root_so_that_the_folder_can_move(tmp_path: Path) -> None:
    root = RunsRoot(tmp_path)
    assert relative(root.run("a").iteration(1).checkpoint(5), root) == "a/iteration-01/checkpoints/step-000005"
    assert relative(Path("/models/base"), root) == "/models/base"


def test_a_record_that_cannot_be_written_is_one_line_and_the_old_one_stays(folder: RunFolder) -> None:
    folder.root.path.joinpath("try").write_text("a file, no folder")
    with pytest.raises(ArtifactError, match="cannot write: ") as error:
        write_record(folder, {"run": "try"})
    assert "\n" not in str(error.value)


def test_a_value_that_is_no_json_leaves_the_old_record(started: RunFolder) -> None:
    before = started.record.read_bytes()
    with pytest.raises(TypeError):
        write_record(started, {"run": Path("x")})
    assert started.record.read_bytes() == before
    assert [path.name for path in started.path.iterdir()] == ["run.json"]


def killer(fsync: Callable[[Path], None], nth: int) -> Callable[[Path], None]:
    """An fsync that ends the process instead of its n-th call."""
    calls = count(1)
    return lambda path: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == nth else fsync(path)


def test_a_writer_killed_at_any_moment_leaves_the_old_record_or_the_new_one(started: RunFolder) -> None:
    old, new = read_record(started), read_record(started) | {"stages": [{"name": f"s{n}"} for n in range(500)]}
    for nth in (1, 2):  # the draft is synced, the folder is synced
        write_record(started, old)
        pid = os.fork()
        if not pid:
            records.fsync = killer(records.fsync, nth)
            write_record(started, new)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        assert read_record(started) == (old, new)[nth - 1]
        write_record(started, new)
        assert [path.name for path in started.path.iterdir()] == ["run.json"]
        assert json.loads(started.record.read_text("utf-8")) == new


def test_the_newest_run_is_found_among_damaged_ones(started: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    """An abandoned run must not cost every other its nightly evaluation."""
    root = started.root
    (root.path / "abandoned").mkdir()
    (root.path / "abandoned" / "run.json").write_text("{")
    assert newest_run(root) is None
    assert "passed over" in caplog.text
    assert "abandoned" in caplog.text
