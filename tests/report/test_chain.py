"""What the weights of a stage were made from, where the data's own losers were played against."""

from __future__ import annotations

from dataclasses import replace

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
