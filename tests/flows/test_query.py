"""`spin-diffusion query` from the command line: three forms of an answer, and one line for every mistake."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from flows import cli
from tests.report.measured import MODELS, PROMPTS, measure

MEANS = "SELECT scorer, avg(score) AS mean, count(*) AS n FROM scores WHERE draw = 0 GROUP BY scorer ORDER BY scorer"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure(tmp_path_factory.mktemp("asked") / "runs").path


class Asking:
    """Exit code, standard output and standard error of a question."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.capsys, self.monkeypatch, self.root = capsys, monkeypatch, root

    def __call__(self, sql: str, *options: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["spin-diffusion", "query", sql, "--root", str(self.root), *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *self.capsys.readouterr()


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path) -> Asking:
    pytest.importorskip("duckdb")
    return Asking(capsys, monkeypatch, root)


def test_the_answer_is_a_table_for_people(ask: Asking) -> None:
    code, out, err = ask(MEANS)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    # base has the mean 3.5, sft 4.5, under both protocols
    assert lines[0] == ["scorer", "mean", "n"]
    assert lines[2:] == [["hpsv2", "4", "32"], ["pickscore", "24", "32"]]


def test_the_answer_is_csv_for_programs(ask: Asking) -> None:
    code, out, _ = ask(MEANS, "--format", "csv")
    assert code == 0
    assert list(csv.reader(io.StringIO(out))) == [
        ["scorer", "mean", "n"], ["hpsv2", "4.0", "32"], ["pickscore", "24.0", "32"],
    ]  # fmt: skip


def test_the_answer_is_json_for_programs(ask: Asking) -> None:
    code, out, _ = ask(MEANS, "--format", "json")
    assert code == 0
    assert json.loads(out) == [
        {"scorer": "hpsv2", "mean": 4.0, "n": 32}, {"scorer": "pickscore", "mean": 24.0, "n": 32},
    ]  # fmt: skip


def test_values_of_every_kind_have_a_form(ask: Asking) -> None:
    question = (
        "SELECT 'nan'::DOUBLE AS a, NULL AS b, [1, 2] AS c, {'x': 1.5::DECIMAL(3, 1)} AS d, 'ab'::BLOB AS e, "
        "DATE '2026-11-21' AS f, TRUE AS g, INTERVAL 1 DAY AS h, 'a,\"b' AS i, 1 AS i"
    )
    _, out, _ = ask(question, "--format", "json")
    assert json.loads(out) == [
        {
            "a": None, "b": None, "c": [1, 2], "d": {"x": 1.5}, "e": "6162", "f": "2026-11-21", "g": True,
            "h": "1 day, 0:00:00", "i": 'a,"b', "i_2": 1,
        }
    ]  # fmt: skip
    _, out, _ = ask(question, "--format", "csv")
    assert list(csv.reader(io.StringIO(out)))[1] == [
        "nan", "", "[1, 2]", '{"x": 1.5}', "6162", "2026-11-21", "True", "1 day, 0:00:00", 'a,"b', "1",
    ]  # fmt: skip


def test_an_answer_without_rows_is_valid_in_every_form(ask: Asking) -> None:
    assert ask("SELECT scorer FROM scores WHERE FALSE", "--format", "json")[1] == "[]\n"
    assert ask("SELECT scorer FROM scores WHERE FALSE", "--format", "csv")[1] == "scorer\n"
    assert "scorer" in ask("SELECT scorer FROM scores WHERE FALSE")[1]


def test_a_long_answer_is_cut_on_a_terminal_and_whole_as_csv(ask: Asking) -> None:
    _, out, _ = ask("SELECT range AS number FROM range(2500)")
    assert "the first 1000 rows; --format csv gives all" in out
    assert [line.strip() for line in out.splitlines() if line.strip().isdigit()] == list(map(str, range(1000)))
    assert len(ask("SELECT range AS number FROM range(2500)", "--format", "csv")[1].splitlines()) == 2501


def test_nothing_that_a_terminal_would_obey_is_printed(ask: Asking) -> None:
    _, out, _ = ask("SELECT 'red' || chr(27) || '[31m [bold]' AS text")
    assert "\x1b" not in out
    assert "red\\x1b[31m [bold]" in out


def test_a_pivot_and_a_plan_are_questions_too(ask: Asking) -> None:
    code, out, _ = ask("PIVOT (SELECT checkpoint, scorer FROM scores) ON scorer USING count(*)", "--format", "csv")
    assert code == 0
    assert out.splitlines()[0] == "checkpoint,hpsv2,pickscore"
    assert {line.split(",")[0] for line in out.splitlines()[1:]} == {digest[:16] for digest in MODELS.values()}
    assert ask("EXPLAIN SELECT 1")[0] == 0


def test_bytes_of_pictures_are_there_when_asked_for(ask: Asking) -> None:
    assert ask("SELECT bytes FROM images")[0] == 2
    code, out, _ = ask("SELECT DISTINCT bytes FROM images", "--with-bytes", "--format", "csv")
    assert (code, out) == (0, "bytes\n504e47\n")
    assert "<3 bytes>" in ask("SELECT DISTINCT bytes FROM images", "--with-bytes")[1]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT nope FROM scores", ('"nope" not found', "DESCRIBE <table>")),
        ("SELEC 1", ("syntax error",)),
        ("SELECT 'a'::INT", ("Could not convert string 'a'",)),
        ("SELECT error('one\ntwo')", ("one two",)),
        ("SELECT 1 / (range - 2000)::INT, CAST(CASE range WHEN 2400 THEN 'x' ELSE '1' END AS INT) FROM range(2500)",
         ("Could not convert",)),
        ("SELECT 1; SELECT 2", ("holds 2 statements",)),
        ("", ("holds 0 statements",)),
        ("CREATE TABLE t (a INT)", ("is no question, but CREATE",)),
        ("COPY (SELECT 1) TO 'x.csv'", ("is no question, but COPY",)),
        ("SET threads = 1", ("is no question, but SET",)),
        ("SELECT * FROM read_text('/etc/hostname')", ("disabled by configuration",)),
    ],
)  # fmt: skip
def test_a_wrong_question_is_one_line_and_exit_code_2(ask: Asking, sql: str, words: tuple[str, ...]) -> None:
    code, _, err = ask(sql, "--format", "csv")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert err.startswith("query: ")
    assert "LINE 1" not in err
    for word in words:
        assert word in err


def test_an_unknown_root_and_an_unknown_form_are_refused(ask: Asking, tmp_path: Path) -> None:
    assert ask(MEANS, "--format", "xml")[0] == 2
    ask.root = tmp_path / "nowhere"
    code, _, err = ask(MEANS)
    assert (code, err) == (2, f"{tmp_path / 'nowhere'}: no such folder; name the runs root with --root\n")


def test_what_was_left_out_is_told_apart_from_the_answer(ask: Asking, tmp_path: Path) -> None:
    ask.root = measure(tmp_path / "runs").path
    next(iter(sorted(ask.root.glob("evaluations/*/hpsv2.single.*/scores/shard-00000.parquet")))).write_bytes(b"x")
    code, out, err = ask("SELECT count(*) AS n FROM scores WHERE protocol = 'single'", "--format", "csv")
    assert (code, out) == (0, f"n\n{2 * 2 * len(PROMPTS) - 8}\n")
    assert err == "1 damaged or unfinished files of evaluations are left out\n"


def test_without_the_extra_one_line_tells_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, out, err = Asking(capsys, monkeypatch, root)("SELECT 1")
    assert (code, out) == (2, "")
    assert err == 'query: DuckDB is not installed; pip install "spin-diffusion[query]"\n'
