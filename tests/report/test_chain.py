"""What the weights of a stage were made from, where the data's own losers were played against."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spin.core.layout import RealCache, RunsRoot
from spin.core.store import commit, discard
from spin.report.chain import Chain
from tests.report.conftest import RunBuilder


@pytest.fixture
def labelled(builder: RunBuilder) -> RunBuilder:
    """A run of one iteration on labelled losers, whose weights tell of them."""
    run = replace(builder, stages=("base", "sft", "iteration-01"), pictures=False)
    run.build()
    record = run.record()
    record["config"]["train"]["losers"] = "labelled"
    record["real"] = "cache/real/own"
    record["stages"][2] |= {"samples": None, "checkpoint": "miniature/iteration-01/checkpoints/step-000040"}
    run.write_record(record)
    write_losers(run, data=record["data_digest"])
    weights, identity = run.root / record["stages"][2]["checkpoint"], {"start": "s", "losers": "the-losers"}
    commit(weights, lambda path: path.write_bytes(b"w") and None, kind="checkpoint", identity=identity)
    return run


def write_losers(run: RunBuilder, *, data: str, digest: str = "the-losers") -> None:
    losers = RealCache(run.root / "cache" / "real" / "own").losers
    discard(losers)
    commit(
        losers, lambda path: path.write_bytes(b"PAR1") and None, kind="losers", digest=lambda _: digest,
        identity={"data": data, "model": run.record()["base"]["digest"], "losers": "pixels"},
    )  # fmt: skip


def chain_of(run: RunBuilder) -> Chain:
    chain = Chain(RunsRoot(run.root).run(run.name))
    chain.model("iteration-01")
    return chain


def test_labelled_losers_are_a_link_of_the_weights_that_played_against_them(labelled: RunBuilder) -> None:
    chain = chain_of(labelled)
    assert "losers" in chain.links["model iteration-01"].made_from
    link = chain.links["losers"]
    assert (link.kind, link.digest, link.problems) == ("labelled losers", "the-losers", ())
    assert link.made_from == ("data", "model base")
    assert "losers" not in chain.links[chain.model("sft")].made_from


def test_losers_that_are_others_now_or_of_other_data_break_the_chain(labelled: RunBuilder) -> None:
    weights = "model iteration-01"
    assert not any("other losers" in problem for problem in chain_of(labelled).links[weights].problems)
    write_losers(labelled, data="other", digest="others")
    chain = chain_of(labelled)
    assert "trained on other losers: the-losers, not others" in chain.links[weights].problems
    (problem,) = chain.links["losers"].problems
    assert problem.startswith("losers.parquet is of other data: other, not ")


def test_losers_that_are_gone_are_named(labelled: RunBuilder) -> None:
    discard(RealCache(labelled.root / "cache" / "real" / "own").losers)
    assert chain_of(labelled).links["losers"].problems == ("cache/real/own/losers.parquet is missing",)


DIGESTS = {"base": "b" * 64, "iteration-01": "1" * 64, "iteration-02": "2" * 64, "iteration-03": "3" * 64}
AVERAGES = {"iteration-02": "e" * 64, "iteration-03": "f" * 64}


@pytest.fixture
def averaged(builder: RunBuilder) -> RunBuilder:
    """Three iterations from the base, the second and the third against the average of all iterates before them."""
    run = replace(builder, stages=tuple(DIGESTS), pictures=False)
    run.build()
    record = run.record()
    record["config"]["train"]["opponent"] = "average"
    before, opponent = "base", DIGESTS["base"]
    for stage in record["stages"][1:]:
        name, start = stage["name"], DIGESTS[before]
        if name in AVERAGES:
            write_average(run, name, opponent=opponent, iterate=start)
            opponent = AVERAGES[name]
        reference = {"reference": opponent} if name in AVERAGES else {}
        stage |= {"digest": DIGESTS[name], "start_digest": start, "opponent_digest": opponent, "samples": None}
        stage["checkpoint"] = f"{run.name}/{name}/checkpoints/step-000040"
        write_folder(run.root / stage["checkpoint"], DIGESTS[name], {"start": start, **reference})
        before = name
    record["stages"][0]["digest"] = record["base"]["digest"] = DIGESTS["base"]
    run.write_record(record)
    return run


def write_average(run: RunBuilder, name: str, *, opponent: str, iterate: str, digest: str | None = None) -> None:
    folder = RunsRoot(run.root).run(run.name).path / name / "opponent"
    discard(folder)
    write_folder(folder, digest or AVERAGES[name], {"opponent": opponent, "iterate": iterate, "decay": 0.5})


def write_folder(folder: Path, digest: str, identity: dict[str, object]) -> None:
    def write(draft: Path) -> None:
        draft.mkdir()
        (draft / "weights").write_bytes(digest.encode())

    commit(folder, write, kind="checkpoint", digest=lambda _: digest, identity=identity)


def problems_behind(run: RunBuilder, name: str) -> list[str]:
    """Of the weights of a stage, and of all models and opponents behind them."""
    chain = Chain(RunsRoot(run.root).run(run.name), hash_bytes=True)
    players = [link for link in chain.reachable(chain.model(name)) if link.kind in ("checkpoint", "averaged opponent")]
    return [problem for link in players for problem in link.problems]


def test_averaged_opponents_are_links_back_to_the_models_that_they_average(averaged: RunBuilder) -> None:
    chain = Chain(RunsRoot(averaged.root).run(averaged.name))
    assert chain.links[chain.model("iteration-03")].made_from[:2] == ("model iteration-02", "opponent iteration-03")
    link = chain.links["opponent iteration-03"]
    assert (link.kind, link.digest, link.facts) == ("averaged opponent", AVERAGES["iteration-03"], {"decay": 0.5})
    assert link.made_from == ("opponent iteration-02", "model iteration-02")
    assert chain.links["opponent iteration-02"].made_from == ("model base", "model iteration-01")
    assert problems_behind(averaged, "iteration-03") == []


def test_an_averaged_opponent_that_is_gone_breaks_the_chain_of_all_after_it(averaged: RunBuilder) -> None:
    shutil.rmtree(RunsRoot(averaged.root).run(averaged.name).iteration(2).opponent)
    for name in ("iteration-02", "iteration-03"):
        assert problems_behind(averaged, name) == [f"{averaged.name}/iteration-02/opponent is missing"]
    assert problems_behind(averaged, "iteration-01") == []


def test_an_opponent_that_was_averaged_anew_is_found(averaged: RunBuilder) -> None:
    write_average(averaged, "iteration-02", opponent=DIGESTS["base"], iterate="x" * 64, digest="d" * 64)
    assert problems_behind(averaged, "iteration-02") == [
        "run.json names another opponent: dddddddddddd, not eeeeeeeeeeee",
        "averaged with another iterate than starts: xxxxxxxxxxxx, not 111111111111",
        "averaged from what is no model of the run",
    ]


def test_weights_that_were_held_against_another_opponent_are_found(averaged: RunBuilder) -> None:
    record = averaged.record()
    weights = averaged.root / record["stages"][2]["checkpoint"]
    discard(weights)
    write_folder(weights, DIGESTS["iteration-02"], {"start": DIGESTS["iteration-01"], "reference": "x" * 64})
    assert problems_behind(averaged, "iteration-02") == [
        "run.json names another opponent: xxxxxxxxxxxx, not eeeeeeeeeeee",
        "held against xxxxxxxxxxxx, which is no model of the run",
    ]
