from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot, manifest_path
from spin.core.plan import prompt_hash
from spin.core.schema import SCORES
from spin.report.database import Database, open_database
from tests.report.measured import DRAWS, EVALUATION, JUDGES, MODELS, PROMPTS, measure, score_of, write

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scores.md").read_text("utf-8")
TABLES = ("scores", "images", "quarantine", "denoising", "set_metrics", "evaluations", "nights", "runs")
QUESTIONS = re.findall(r"```sql\n(.+?)\n```", PAGE, re.DOTALL)
BASE, SFT = (digest[:16] for digest in MODELS.values())

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> RunsRoot:
    """Shared by tests that only read it."""
    return measure(tmp_path_factory.mktemp("measured") / "runs")


def asking(database: Database) -> Ask:
    return lambda sql: database.connection.execute(sql).fetchall()


@pytest.fixture
def ask(measured: RunsRoot) -> Ask:
    pytest.importorskip("duckdb")
    database = open_database(measured)
    assert database.notices == ()
    return asking(database)


def documented(table: str) -> list[tuple[str, str]]:
    """Columns and types of a table as docs/scores.md tells them."""
    section = PAGE.split(f"### {table}\n")[1].split("\n#")[0]
    return re.findall(r"^\| (\w+) \| ([A-Z]+) \|", section, re.MULTILINE)


@pytest.mark.parametrize("table", TABLES)
def test_the_page_tells_every_column_of_every_table_with_its_type(ask: Ask, table: str) -> None:
    assert [row[:2] for row in ask(f"DESCRIBE {table}")] == documented(table)


def test_there_are_the_documented_tables_and_no_others(ask: Ask) -> None:
    assert sorted(name for (name,) in ask("SHOW TABLES")) == sorted(TABLES) == sorted(re.findall(r"### (\w+)", PAGE))


def answer(ask: Ask, beginning: str) -> list[tuple[Any, ...]]:
    """Rows of the worked question that begins so."""
    (question,) = [question for question in QUESTIONS if question.startswith(beginning)]
    return ask(question)


def test_the_page_asks_nine_questions() -> None:
    assert len(QUESTIONS) == 9


def test_the_question_of_the_report_gives_means_and_medians(ask: Ask) -> None:
    assert answer(ask, "SELECT r.run, r.label") == [
        ("mine", "base", "hpsv2", "hpsv2", 3.5, 3.5, 8), ("mine", "base", "hpsv2", "pickscore", 23.5, 23.5, 8),
        ("mine", "SFT", "hpsv2", "hpsv2", 4.5, 4.5, 8), ("mine", "SFT", "hpsv2", "pickscore", 24.5, 24.5, 8),
    ]  # fmt: skip


def test_the_question_by_category_has_a_column_for_each_judge(ask: Ask) -> None:
    rows = answer(ask, "PIVOT")
    # anime has the prompts 0, 2, 4, 6 and photo 1, 3, 5, 7
    assert sorted(rows) == sorted([
        (BASE, "anime", 3.0, 23.0), (BASE, "photo", 4.0, 24.0), (SFT, "anime", 4.0, 24.0), (SFT, "photo", 5.0, 25.0),
    ])  # fmt: skip


def test_the_question_of_two_models_pairs_prompts(ask: Ask) -> None:
    rows = answer(ask, "SELECT a.benchmark")
    assert [(*row[:3], float(row[3]), row[4]) for row in rows] == [
        ("hpsv2", judge, 1.0, 1.0, len(PROMPTS)) for judge in JUDGES
    ]


def test_the_question_of_best_of_n_keeps_the_best_draw_of_the_mean(ask: Ask) -> None:
    rows = answer(ask, "WITH judged")
    expected = [
        (MODELS[model][:16], "hpsv2", judge, sum(score_of(model, judge, prompt, 1) for prompt in PROMPTS) / 8, 8)
        for model in MODELS
        for judge in JUDGES
    ]
    assert rows == sorted(expected)


def test_the_question_of_lost_prompts_follows_the_opponent(ask: Ask) -> None:
    rows = answer(ask, "SELECT b.prompt")
    assert len(rows) == 10
    assert {row[5] for row in rows} == {1.0}


def test_the_question_of_denoising_goes_from_clean_to_noise(ask: Ask) -> None:
    rows = answer(ask, "SELECT r.label, timestep")
    assert [(label, start, round(error, 9), draws) for label, start, error, draws in rows] == [
        ("base", 0, 0.5, 8), ("base", 500, 0.1, 8), ("SFT", 0, 0.5, 8), ("SFT", 500, 0.1, 8),
    ]  # fmt: skip


def test_the_question_of_costs_adds_what_the_manifests_say(ask: Ask) -> None:
    rows = {row[1]: row for row in answer(ask, "SELECT device")}
    assert set(rows) == {"images", "scores", "denoising", "set-metrics"}
    # two models, two protocols, two shards of two seconds; 8 prompts with one draw and with three
    assert rows["images"] == ("cpu Tiny", "images", 64, 16.0, 0.25)


def test_the_question_of_nights_has_the_change(ask: Ask) -> None:
    assert answer(ask, "SELECT night") == [
        ("2026-11-21", "mine", "SFT", "hpsv2", 0.75, 0.25), ("2026-11-20", "mine", "SFT", "hpsv2", 0.5, None),
    ]  # fmt: skip


def test_the_question_of_unjudged_pictures_finds_them(measured: RunsRoot, ask: Ask, tmp_path: Path) -> None:
    assert answer(ask, "SELECT i.checkpoint") == []
    other = measure(tmp_path / "runs")
    folder = other.evaluation(MODELS["sft"], "hpsv2", "single", EVALUATION)
    folder.scores(1).write_bytes(b"torn")
    database = open_database(other)
    assert answer(asking(database), "SELECT i.checkpoint") == [(SFT, "hpsv2", 4)]
    assert database.notices == ("1 damaged or unfinished files of evaluations are left out",)


def test_scores_hold_every_row_with_the_place_of_its_file(ask: Ask) -> None:
    rows = len(MODELS) * len(JUDGES) * len(PROMPTS) * (1 + DRAWS)
    assert ask("SELECT count(*), count(DISTINCT (checkpoint, protocol, shard)) FROM scores") == [(rows, 8)]
    assert ask(
        "SELECT checkpoint, benchmark, evaluation, shard, seed, digest, category FROM scores "
        f"WHERE prompt_id = '{prompt_hash('photo 3')}' AND protocol = 'single' AND scorer = 'hpsv2' ORDER BY ALL"
    ) == [
        (digest[:16], "hpsv2", EVALUATION, 1, 2**63 + 5, digest, "photo") for digest in sorted(MODELS.values())
    ]  # fmt: skip


def test_scores_of_an_older_shape_have_nulls_where_they_knew_nothing(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    root = measure(tmp_path / "runs")
    folder = root.evaluation("data-" + "d" * 64, "a.b-test", "single", "00ff")
    older = SCORES
    for name in ("category", "challenge", "draw", "checkpoint", "version", "settings"):
        older = older.remove(older.get_field_index(name))
    row = {"prompt_id": "x", "prompt": "y", "seed": 1, "scorer": "aesthetic", "score": 5.0}
    write(folder.scores(0), older, [row], "scores")
    found = asking(open_database(root))("SELECT * FROM scores WHERE evaluation = '00ff'")
    place = ("data-" + "d" * 11, "a.b-test", "single", "00ff", 0)
    assert found == [(*place, "x", "y", None, None, 1, None, "aesthetic", None, None, 5.0, None)]


def test_runs_have_a_row_for_the_data_and_for_a_stage_that_is_not_made_yet(ask: Ask) -> None:
    rows = ask("SELECT position, stage, checkpoint, opponent, benchmark, seed FROM runs ORDER BY position")
    assert rows == [
        (0, "data", "data-" + "d" * 11, None, "hpsv2", 7), (1, "base", BASE, None, "hpsv2", 7),
        (2, "sft", SFT, BASE, "hpsv2", 7), (3, "iteration-01", None, None, None, 7),
    ]  # fmt: skip


def test_nights_name_a_checkpoint_as_the_other_tables_do(ask: Ask) -> None:
    assert ask("SELECT DISTINCT checkpoint, digest FROM nights") == [(SFT, MODELS["sft"])]


def test_pictures_come_without_their_bytes_until_they_are_asked_for(measured: RunsRoot, ask: Ask) -> None:
    assert "bytes" not in [row[0] for row in ask("DESCRIBE images")]
    found = asking(open_database(measured, with_bytes=True))("SELECT DISTINCT bytes, draw FROM images")
    assert found == [(b"PNG", None)]


def test_a_file_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    root = measure(tmp_path / "runs")
    folder = root.evaluation(MODELS["base"], "hpsv2", "single", EVALUATION)
    manifest_path(folder.scores(0)).unlink()
    torn = folder.images(1).read_bytes()
    folder.images(1).write_bytes(torn[:-1])
    (root.path / "broken").mkdir()
    (root.path / "broken" / "run.json").write_text("{")
    root.nights.write_bytes(b"PAR1")
    database = open_database(root)
    ask = asking(database)
    assert ask(f"SELECT count(*) FROM scores WHERE protocol = 'single' AND checkpoint = '{BASE}'") == [(8,)]
    assert ask("SELECT count(*) FROM nights") == [(0,)]
    assert [notice.split(":")[0] for notice in database.notices] == [
        "2 damaged or unfinished files of evaluations are left out", "the history of nights is left out",
        "run broken is left out",
    ]  # fmt: skip
    assert root.nights.read_bytes() == b"PAR1"  # set aside by nobody: this only reads


def test_an_empty_root_has_all_tables_without_rows(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    ask = asking(open_database(RunsRoot(tmp_path)))
    assert [ask(f"SELECT count(*) FROM {table}") for table in TABLES] == [[(0,)]] * len(TABLES)


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    with pytest.raises(ConfigError, match="no such folder; name the runs root with --root"):
        open_database(RunsRoot(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "question",
    [
        "COPY (SELECT 1) TO '{file}'", "ATTACH '{file}'", "EXPORT DATABASE '{file}'", "INSTALL httpfs", "LOAD httpfs",
        "SELECT * FROM read_text('{secret}')", "SELECT * FROM read_csv('{secret}')", "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('{folder}/*')", "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '{file}')", "SET enable_external_access = true",
        "SET temp_directory = '{folder}'", "RESET lock_configuration", "SELECT getenv('HOME')",
        "DELETE FROM scores", "INSERT INTO runs SELECT * FROM runs", "CREATE PERSISTENT SECRET s (TYPE http)",
    ],
)  # fmt: skip
def test_no_query_writes_reads_other_files_or_loads_anything(ask: Ask, tmp_path: Path, question: str) -> None:
    import duckdb

    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(duckdb.Error):
        ask(question.format(file=tmp_path / "written", secret=secret, folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_no_query_reads_the_variables_of_the_program(measured: RunsRoot) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection, variable = open_database(measured).connection, pa.table({"a": [1]})
    assert duckdb.connect().execute("SELECT * FROM variable").fetchall() == [(variable["a"][0].as_py(),)]
    with pytest.raises(duckdb.Error, match="variable does not exist"):
        connection.execute("SELECT * FROM variable")


def test_nothing_is_written_and_nobody_is_called(measured: RunsRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = {str(path): path.stat().st_mtime_ns for path in measured.path.rglob("*")}
    ask = asking(open_database(measured))
    assert all(isinstance(ask(question), list) for question in QUESTIONS)
    assert {str(path): path.stat().st_mtime_ns for path in measured.path.rglob("*")} == before


def test_without_the_extra_one_line_tells_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError) as caught:
        open_database(RunsRoot(tmp_path))
    assert str(caught.value) == 'query: DuckDB is not installed; pip install "spin-diffusion[query]"'


def test_the_record_of_a_run_may_lack_its_data(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    root = measure(tmp_path / "runs")
    record = json.loads(root.run("mine").record.read_text())
    del record["data"]
    root.run("mine").record.write_text(json.dumps(record))
    assert asking(open_database(root))("SELECT position, stage FROM runs WHERE position = 0") == [(0, "base")]
