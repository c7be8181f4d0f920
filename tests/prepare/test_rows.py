from __future__ import annotations

import hashlib

import pytest

from spin.diffusion.text import prompt_hash as prompt_hash_of_readers
from spin.prepare.rows import Row, TargetData, prompt_hash, sample_id, split_rows

IDS = [hashlib.sha256(str(i).encode()).hexdigest()[:32] for i in range(4000)]


def data(rows: list[Row]) -> TargetData:
    return TargetData(rows, (), lambda size, splits: iter(()))


def test_half_of_the_share_is_validation_and_half_is_test() -> None:
    splits = list(split_rows(IDS, held_out_share=0.2).values())
    assert splits.count("validation") == pytest.approx(400, abs=80)
    assert splits.count("test") == pytest.approx(400, abs=80)


def test_adding_rows_moves_no_row_to_another_split() -> None:
    few, many = split_rows(IDS[:1000], held_out_share=0.1), split_rows(IDS, held_out_share=0.1)
    assert all(many[name] == split for name, split in few.items())


def test_the_order_of_rows_does_not_matter_to_their_splits() -> None:
    assert split_rows(IDS, held_out_share=0.1) == split_rows(IDS[::-1], held_out_share=0.1)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("rows", [8, 9, 20, 100])
def test_every_split_has_a_row_even_in_tiny_data(rows: int, share: float) -> None:
    for start in range(0, 400, rows):
        assert set(split_rows(IDS[start : start + rows], held_out_share=share).values()) == {
            "train",
            "validation",
            "test",
        }


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_still_split_without_a_crash(rows: int) -> None:
    assert len(split_rows(IDS[:rows], held_out_share=0.1)) == rows


def test_the_identity_of_a_row_is_its_picture_and_its_caption() -> None:
    assert len(sample_id(b"picture", "caption")) == 32
    assert len({sample_id(image, text) for image in (b"a", b"b") for text in ("c", "d")}) == 4


def test_readers_and_writers_hash_prompts_alike() -> None:
    assert prompt_hash("a cat") == prompt_hash_of_readers("a cat")


def test_the_digest_knows_rows_splits_and_size_but_no_order_and_no_origin() -> None:
    one, two = Row("1" * 32, "a", "train", "x:1"), Row("2" * 32, "b", "test", "x:2")
    digest = data([one, two]).digest(32)
    assert data([two, Row(one.sample_id, "a", "train", "elsewhere:9")]).digest(32) == digest
    assert data([one, two]).digest(64) != digest
    assert data([one, Row(two.sample_id, "b", "validation", "x:2")]).digest(32) != digest
    assert data([one]).digest(32) != digest
