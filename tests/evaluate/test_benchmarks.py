from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from spin.core.benchmarks import PUBLISHED
from spin.core.errors import DataError
from spin.evaluate.benchmarks import BENCHMARKS, benchmark_of
from spin.evaluate.prompts import PromptRecord
from tests.evaluate import hub_copies

ROOT = Path(__file__).resolve().parents[2]
COPIES = {"pickapic_test": hub_copies.pickapic, "partiprompts": hub_copies.partiprompts, "hpsv2": hub_copies.hpsv2}


def plain(record: PromptRecord) -> tuple[object, ...]:
    return (record.origin, record.prompt, record.category, record.challenge or None)


def test_the_counts_are_those_that_the_paper_names() -> None:
    counts = {name: benchmark.prompts for name, benchmark in BENCHMARKS.items()}
    assert counts == {"pickapic_test": 500, "partiprompts": 1632, "hpsv2": 3200, "paper_figures": 8}
    assert tuple(counts) == PUBLISHED
    assert [name for name, benchmark in BENCHMARKS.items() if benchmark.balanced] == ["partiprompts", "hpsv2"]
    assert all(benchmark.licence for benchmark in BENCHMARKS.values())
    commits = [benchmark.revision for benchmark in BENCHMARKS.values() if benchmark.revision is not None]
    assert len(commits) == 2
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)


def test_the_figures_of_the_paper_travel_inside_the_package() -> None:
    found = list(BENCHMARKS["paper_figures"].records())
    assert Counter(record.category for record in found) == {"figure 2": 3, "figure 11": 5}
    assert found[1].prompt == "painting of a castle in the distance"
    assert len({record.prompt for record in found}) == 8


@pytest.mark.parametrize("name", COPIES)
def test_the_hub_and_a_copy_of_it_give_the_same_rows(tmp_path: Path, name: str) -> None:
    folder, benchmark = COPIES[name](tmp_path / "repo"), BENCHMARKS[name]
    through_datasets = list(map(plain, replace(benchmark, dataset=str(folder), revision=None).records()))
    assert through_datasets == list(map(plain, benchmark.records(folder)))
    assert len(through_datasets) == benchmark.prompts


def test_pick_a_pic_is_its_unique_test_prompts_and_no_other_file_is_opened(tmp_path: Path) -> None:
    found = [plain(record) for record in BENCHMARKS["pickapic_test"].records(hub_copies.pickapic(tmp_path / "repo"))]
    assert found[7] == ("test_unique-00000-of-00001-e852c19ead276a89.parquet:8", "pick 7", None, None)


def test_partiprompts_have_a_category_and_a_challenge_and_na_is_a_prompt(tmp_path: Path) -> None:
    folder = hub_copies.partiprompts(tmp_path / "repo")
    for records in (
        BENCHMARKS["partiprompts"].records(folder),
        replace(BENCHMARKS["partiprompts"], dataset=str(folder), revision=None).records(),
    ):
        found = [plain(record) for record in records]
        assert found[0] == ("PartiPrompts.tsv:2", "NA", "Arts", "Basic")
        assert found[-1] == ("PartiPrompts.tsv:1633", 'part 1631 called "1631"', "Animals", "Imagination")


def test_hpsv2_has_a_style_for_each_of_its_files(tmp_path: Path) -> None:
    found = list(BENCHMARKS["hpsv2"].records(hub_copies.hpsv2(tmp_path / "repo")))
    assert Counter(record.category for record in found) == dict.fromkeys(hub_copies.STYLES, 800)
    assert plain(found[800]) == ("concept-art.json:1", "concept-art 0, \u00e9", "concept-art", None)


def test_files_may_lie_in_the_folder_itself_and_one_file_may_hold_all(tmp_path: Path) -> None:
    nested = hub_copies.hpsv2(tmp_path / "repo", rows=2) / "benchmark"
    assert len(list(BENCHMARKS["hpsv2"].records(nested))) == 8
    table = tmp_path / "all.csv"
    table.write_text("style,prompt\nanime,a cat\n")
    (record,) = BENCHMARKS["hpsv2"].records(table)
    assert (record.prompt, record.category) == ("a cat", "anime")


def test_a_folder_without_the_files_says_which_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(BENCHMARKS["hpsv2"].records(tmp_path))
    assert f"no {tmp_path / 'benchmark' / 'anime.json'} or {tmp_path / 'anime.json'}" in str(caught.value)


def test_a_data_set_with_a_loading_script_is_refused_and_the_script_does_not_run(tmp_path: Path) -> None:
    folder, trace = tmp_path / "script", tmp_path / "trace"
    folder.mkdir()
    (folder / "script.py").write_text(f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(DataError) as caught:
        list(replace(BENCHMARKS["partiprompts"], dataset=str(folder), revision=None).records())
    assert "cannot be loaded from the hub" in str(caught.value)
    assert "partiprompts=DIR" in str(caught.value)
    assert not trace.exists()


def test_a_hub_that_is_out_of_reach_is_one_line_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError) as caught:
        next(BENCHMARKS["pickapic_test"].records())
    assert str(caught.value).startswith("yuvalkirstain/pickapic_v2_no_images/data/test_unique-")
    assert str(caught.value).endswith("download it elsewhere and name the folder: pickapic_test=DIR")
    assert "\n" not in str(caught.value)


def test_local_files_are_read_without_a_word_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name, copy in COPIES.items():
        assert len(list(BENCHMARKS[name].records(copy(tmp_path / name)))) == BENCHMARKS[name].prompts


def test_an_unknown_name_is_told_which_are_known() -> None:
    with pytest.raises(DataError, match=r"no benchmark 'partiprompt'; did you mean 'partiprompts'\?"):
        benchmark_of("partiprompt")
    with pytest.raises(DataError, match="known are pickapic_test, partiprompts, hpsv2, paper_figures"):
        benchmark_of("nothing")


def test_neither_torch_nor_datasets_is_imported_for_local_prompts() -> None:
    program = (
        "import sys, tempfile, pathlib\nfrom spin.evaluate.prompt_set import prepare_prompt_set\n"
        "with tempfile.TemporaryDirectory() as root:\n"
        "    prepare_prompt_set('paper_figures', runs_root=pathlib.Path(root))\n"
        "print({'torch', 'datasets', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr
