from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from spin.core.benchmarks import benchmark_name
from spin.core.errors import ArtifactError, ConfigError, DataError, SpinError
from spin.core.layout import RunsRoot
from spin.core.plan import prompt_hash
from spin.core.schema import PROMPT_SET, content_digest, read_table
from spin.core.store import read_manifest
from spin.evaluate.prompt_set import PromptSet, prepare_prompt_set, read_prompt_set
from spin.miniature.tokenizer import build_tokenizer
from tests.evaluate import hub_copies

ROOT = Path(__file__).resolve().parents[2]


def prepare(benchmark: str | Path, root: Path, **changes: Any) -> PromptSet:
    return prepare_prompt_set(str(benchmark), runs_root=root / "runs", **changes)


def refusal(benchmark: str | Path, root: Path, kind: type[SpinError] = DataError, **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        prepare(benchmark, root, **changes)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return str(caught.value)


def write(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def fingerprint(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, inode and time of every file below the runs root."""
    return {
        str(path): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted((root / "runs").rglob("*"))
        if path.is_file()
    }


def test_a_file_of_prompts_becomes_an_artifact_named_by_its_content(tmp_path: Path) -> None:
    file = write(tmp_path / "My prompts (v2).txt", "a cat", "a  dog", "a cat")
    found = prepare(file, tmp_path)
    assert (found.name, found.rows, found.read, found.duplicates) == ("My-prompts-v2", 2, 3, 1)
    assert (found.quarantined, found.truncated) == ({}, None)
    folder = RunsRoot(tmp_path / "runs").prompt_set("My-prompts-v2", found.digest)
    assert (found.folder, found.prompts) == (folder.path, folder.prompts)
    assert str(folder.path).endswith(f"runs/cache/prompts/My-prompts-v2-{found.digest[:16]}")
    assert content_digest(found.prompts) == found.digest
    assert pq.read_schema(found.prompts).equals(PROMPT_SET)
    first, second = read_prompt_set(found.prompts)
    assert (first.prompt, first.origin, first.prompt_id) == ("a cat", f"{file.name}:1", prompt_hash("a cat"))
    assert (second.prompt, second.category, second.tokens, second.truncated) == ("a dog", None, None, None)


def test_the_same_source_again_writes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.txt", *(f"prompt {number}" for number in range(20)), "\x00")
    first = prepare(file, tmp_path)
    before = fingerprint(tmp_path)
    assert {Path(name).name for name in before} == {
        ".commit.lock", "prompts.parquet", "prompts.parquet.manifest.json", "quarantine.parquet",
        "quarantine.parquet.manifest.json",
    }  # fmt: skip
    assert prepare(file, tmp_path) == first
    assert fingerprint(tmp_path) == before


def test_other_rows_are_another_artifact_and_the_first_one_stays(tmp_path: Path) -> None:
    first = prepare(write(tmp_path / "mine.txt", "a cat"), tmp_path)
    second = prepare(write(tmp_path / "mine.txt", "a cat", "a dog"), tmp_path)
    assert first.digest != second.digest
    assert [len(read_prompt_set(found.prompts)) for found in (first, second)] == [1, 2]


def test_a_damaged_set_is_refused_by_readers_and_made_again(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.txt", "a cat")
    found = prepare(file, tmp_path)
    whole = found.prompts.read_bytes()
    found.prompts.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(ArtifactError, match="bytes differ from the manifest"):
        read_prompt_set(found.prompts)
    prepare(file, tmp_path)
    assert found.prompts.read_bytes() == whole


def test_a_file_that_nobody_committed_is_no_prompt_set(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not there"):
        read_prompt_set(tmp_path / "prompts.parquet")
    found = prepare(write(tmp_path / "mine.txt", "a cat"), tmp_path)
    with pytest.raises(ArtifactError, match="is no prompt set"):
        read_prompt_set(found.folder / "quarantine.parquet")


def test_bad_rows_are_quarantined_with_file_row_and_column_and_counted(tmp_path: Path) -> None:
    good = (f'"good {number}",x' for number in range(17))
    file = write(tmp_path / "mine.csv", "caption,category", *good, ",x", "bell \x07,x", "good 0,x")
    found = prepare(file, tmp_path, max_bad_share=0.1)
    assert (found.rows, found.duplicates, found.quarantined) == (17, 1, {"empty": 1, "control character": 1})
    assert found.read == 20
    aside = read_table(found.folder / "quarantine.parquet").to_pylist()
    assert [(row["origin"], row["reason"]) for row in aside] == [
        ("mine.csv:19", "empty"), ("mine.csv:20", "control character"), ("mine.csv:21", "duplicate"),
    ]  # fmt: skip
    assert "column 'caption': U+0007 at character 6" in aside[1]["detail"]


def test_more_bad_rows_than_allowed_are_an_error_that_names_the_first_and_lists_all(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", *['{"text": "good"}', '{"text": 7}', "{torn"])
    message = refusal(file, tmp_path, max_bad_share=0.5)
    assert message.startswith(f"{file}: 2 of 3 prompts cannot be used (1 not text, 1 unreadable row)")
    assert "first: mine.jsonl:2: not text, column 'text': int 7" in message
    assert "or raise max_bad_share from 0.5" in message
    listed = re.search(r"all are listed in (\S+quarantine\.parquet)", message)
    assert listed is not None
    assert read_table(Path(listed[1])).num_rows == 2
    assert prepare(file, tmp_path, max_bad_share=0.67).rows == 1


def test_where_no_prompt_is_good_no_share_of_bad_ones_helps(tmp_path: Path) -> None:
    assert "raise max_bad_share" not in refusal(write(tmp_path / "mine.jsonl", "7"), tmp_path, max_bad_share=1.0)
    for name in ("none.txt", "none.jsonl"):
        assert "holds no prompts" in refusal(write(tmp_path / name, "", " "), tmp_path)
    (tmp_path / "nothing.txt").touch()
    assert "holds no prompts" in refusal(tmp_path / "nothing.txt", tmp_path)


def test_long_prompts_are_kept_and_marked_by_the_tokenizer_that_is_given(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    file = write(tmp_path / "mine.txt", "a large red circle", *("red " * words for words in (75, 76)))
    found = prepare(file, tmp_path, count_tokens=lambda prompts: [len(ids) for ids in tokenizer(prompts)["input_ids"]])
    assert (found.rows, found.truncated) == (3, 1)
    rows = read_prompt_set(found.prompts)
    assert [(row.tokens, row.truncated) for row in rows] == [(6, False), (77, False), (78, True)]
    assert found.digest != prepare(file, tmp_path).digest


def test_a_limit_takes_the_first_rows_of_ones_own_file(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.txt", "a", "a", "b", "c")
    found = prepare(file, tmp_path, limit=2)
    assert [row.prompt for row in read_prompt_set(found.prompts)] == ["a", "b"]
    assert found.read == 3
    assert "must be at least 1, not 0" in refusal(file, tmp_path, ConfigError, limit=0)


@pytest.mark.parametrize(("name", "copy"), [("partiprompts", hub_copies.partiprompts), ("hpsv2", hub_copies.hpsv2)])
def test_a_limit_takes_as_many_of_each_category_and_a_prefix_of_the_whole(tmp_path: Path, name: str, copy: Any) -> None:
    source = f"{name}={copy(tmp_path / 'repo')}"
    few, more, all_rows = (
        [row.prompt_id for row in read_prompt_set(prepare(source, tmp_path, limit=limit).prompts)]
        for limit in (24, 60, None)
    )
    assert few == all_rows[:24]
    assert more == all_rows[:60]
    rows = read_prompt_set(prepare(source, tmp_path, limit=24).prompts)
    counts = Counter(row.category for row in rows)
    assert len(set(counts.values())) == 1
    assert len(counts) == (3 if name == "partiprompts" else 4)
    if name == "partiprompts":  # sorted by challenge, of which the first rows have one
        assert {row.challenge for row in rows} == {"Basic", "Imagination"}


def test_a_named_benchmark_from_a_copy_is_whole_and_says_where_it_is_from(tmp_path: Path) -> None:
    found = prepare(f"hpsv2={hub_copies.hpsv2(tmp_path / 'repo')}", tmp_path)
    assert (found.name, found.rows) == ("hpsv2", 3200)
    manifest = read_manifest(found.prompts)
    assert manifest is not None
    assert manifest.environment["dataset"] == "zhwang/HPDv2"
    assert manifest.environment["licence"] == "Apache-2.0"
    assert manifest.environment["source"] == str(tmp_path / "repo")
    assert manifest.content_digest == found.digest


def test_another_count_than_the_published_one_is_refused_but_for_a_limit(tmp_path: Path) -> None:
    source = f"pickapic_test={hub_copies.pickapic(tmp_path / 'repo', rows=499)}"
    assert "holds 499 prompts, not the 500 of pickapic_test" in refusal(source, tmp_path)
    assert prepare(source, tmp_path, limit=400).rows == 400


def test_the_figures_of_the_paper_need_no_source(tmp_path: Path) -> None:
    rows = read_prompt_set(prepare("paper_figures", tmp_path).prompts)
    assert len(rows) == 8
    assert (rows[2].prompt, rows[2].category) == ("red and green eagle", "figure 2")


def test_one_prompt_has_one_identity_in_every_benchmark(tmp_path: Path) -> None:
    (own,) = read_prompt_set(prepare(write(tmp_path / "mine.txt", " red and  green eagle"), tmp_path).prompts)
    assert own.prompt_id in {row.prompt_id for row in read_prompt_set(prepare("paper_figures", tmp_path).prompts)}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("..txt", "prompts"), ("...--x y.txt", "x-y"), ("\u732b.txt", "prompts"), ("hpsv2.txt", "own-hpsv2"),
        ("test.txt", "own-test"), ("a.b.txt", "a-b"), ("x" * 99 + ".txt", "x" * 64),
    ],
)  # fmt: skip
def test_the_name_of_a_file_is_made_safe_for_a_path(tmp_path: Path, name: str, safe: str) -> None:
    (tmp_path / "in").mkdir()
    found = prepare(write(tmp_path / "in" / name, "a cat"), tmp_path)
    assert found.name == safe == benchmark_name(str(tmp_path / "in" / name))
    assert found.folder.parent == tmp_path / "runs" / "cache" / "prompts"


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        ("partiprompt", "did you mean 'partiprompts'"),
        ("hpsv=x.json", "did you mean 'hpsv2'"),
        ("hpsv2=nowhere", "no such file"),
        ("nowhere.txt", "no such file"),
        ("../nowhere/../x.txt", "no such file"),
        ("", "no benchmark ''"),
    ],
)
def test_what_is_neither_a_benchmark_nor_a_file_is_one_line(tmp_path: Path, benchmark: str, words: str) -> None:
    assert words in refusal(benchmark, tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "seed=1.txt", "a cat")
    assert prepare("seed=1.txt", tmp_path).name == "seed-1"


def test_the_column_of_prompts_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "words", "a cat")
    assert "no column of prompts" in refusal(file, tmp_path)
    assert prepare(file, tmp_path, prompt_column="words").rows == 1


@pytest.mark.slow
def test_a_million_prompts_need_little_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    program = (
        "import pathlib, resource, sys\nfrom spin.evaluate.prompt_set import prepare_prompt_set\n"
        "found = prepare_prompt_set(sys.argv[1], runs_root=pathlib.Path(sys.argv[2]))\n"
        "print(found.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for count in (10_000, 1_000_000):
        file = tmp_path / f"prompts-{count}.txt"
        with file.open("w") as stream:
            stream.writelines(f"a photograph of object number {number} on a wooden table\n" for number in range(count))
        arguments = [sys.executable, "-c", program, str(file), str(tmp_path / "runs")]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
        rows, kilobytes = map(int, done.stdout.split())
        assert rows == count
        peaks[count] = kilobytes / 1000
    assert peaks[1_000_000] - peaks[10_000] < 100
