"""Which pictures meet is the same for everybody; order and sides are the voter's own, and tell nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.plan import identity_hash
from spin.core.record import read_record
from spin.report.pictures import pictures_of
from spin.report.reading import read_run
from spin.vote.booth import Booth
from spin.vote.pairs import Contestant, Pair, ballot_of, contestants, pairs_of, picture
from tests.report.conftest import PROMPTS, RunBuilder
from tests.vote.conftest import Open


def two(built: RunBuilder, names: tuple[str, str] | None = None) -> tuple[Contestant, Contestant]:
    return contestants(read_record(RunsRoot(built.root).run(built.name)), built.root, names)


def test_the_start_of_the_game_meets_the_last_model(built: RunBuilder) -> None:
    assert [c.label for c in two(built)] == ["SFT", "SPIN 1"]
    assert [c.label for c in two(built, ("SPIN 1", "base"))] == ["SPIN 1", "base"]


def test_every_prompt_is_asked_once_and_few_are_the_same_few_for_everybody(built: RunBuilder) -> None:
    first, second = two(built)
    everything = pairs_of(first, second, voter="anna", prompts=None)
    assert sorted(pair.prompt_id for pair in everything) == sorted(built.prompt_ids)
    few = {name: pairs_of(first, second, voter=name, prompts=5) for name in ("anna", "ben")}
    assert {p.prompt_id for p in few["anna"]} == {p.prompt_id for p in few["ben"]}
    assert [p.prompt_id for p in few["anna"]] != [p.prompt_id for p in few["ben"]]
    kept = [pair for pair in everything if pair in few["anna"]]
    assert kept == few["anna"]  # more prompts change neither order nor sides


def test_sides_are_shuffled_and_differ_between_voters(built: RunBuilder) -> None:
    first, second = two(built)
    sides = {
        name: {p.prompt_id: p.second_left for p in pairs_of(first, second, voter=name, prompts=None)}
        for name in ("anna", "ben", "cleo", "dora")
    }
    left = sum(flag for found in sides.values() for flag in found.values())
    assert 0.3 * 4 * PROMPTS < left < 0.7 * 4 * PROMPTS
    assert sides["anna"] != sides["ben"]
    assert sides["anna"] == {p.prompt_id: p.second_left for p in pairs_of(first, second, voter="anna", prompts=None)}


def test_the_question_is_the_same_whichever_model_is_named_first(built: RunBuilder, enter: Open) -> None:
    first, second = two(built)
    assert ballot_of(first, second) == ballot_of(second, first)
    one, other = enter(models=("sft", "iteration-01")), enter(models=("iteration-01", "sft"))
    assert one.ballot == other.ballot
    assert seen(one) == seen(other)


def seen(booth: Booth) -> list[tuple[str, str, str]]:
    return [(shown.key, shown.left, shown.right) for shown in map(booth.show, booth.pairs)]


def test_the_pictures_are_those_of_the_two_models(built: RunBuilder) -> None:
    first, second = two(built)
    pair = pairs_of(first, second, voter="anna", prompts=1)[0]
    run = read_run(runs_root=built.root, run=built.name)
    for contestant, stage in ((first, run.stages[1]), (second, run.stages[2])):
        own = pictures_of(stage.evaluation, {pair.prompt_id})[pair.prompt_id]
        assert decoded(picture(contestant, pair)) == own.image.tobytes()


def decoded(data: bytes) -> bytes:
    from spin.report.pictures import decode

    image = decode(data)
    assert image is not None
    return image.tobytes()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("sft", "nothing"), "has no scored model 'nothing'; models: base, sft, iteration-01"),
        (("sft", "SFT"), "name one model twice"),
    ],
)
def test_models_that_cannot_meet_are_refused(built: RunBuilder, names: tuple[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        two(built, names)
    assert words in str(refused.value)


def test_models_that_were_evaluated_otherwise_are_refused(built: RunBuilder) -> None:
    record = built.record()
    record["stages"][2]["evaluation"] = record["stages"][2]["evaluation"].replace("0f3a", "beef")
    built.write_record(record)
    with pytest.raises(ConfigError, match="share no evaluation with the same settings"):
        two(built)


def test_a_run_with_one_model_has_nothing_to_vote_on(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs", stages=("base",))
    builder.build()
    with pytest.raises(ConfigError, match="has no two scored models"):
        two(builder)


def test_a_key_names_the_pair_and_no_model(built: RunBuilder) -> None:
    pair = Pair("p", "a prompt", 7, 0, "shard-00000.parquet", second_left=True)
    assert pair.key == identity_hash("pair", "p", 7, 0)[:16]
