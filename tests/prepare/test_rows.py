from __future__ import annotations

from dataclasses import replace

from spin.core.buckets import Buckets
from spin.diffusion.text import prompt_hash as prompt_hash_of_readers
from spin.prepare.rows import Row, TargetData, prompt_hash, sample_id


def data(rows: list[Row]) -> TargetData:
    return TargetData(rows, (), lambda size, splits: iter(()))


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


def test_buckets_are_part_of_the_digest_and_squares_keep_theirs() -> None:
    """What a run with buckets encodes must never be taken for another's."""
    rows = [Row("0" * 32, "a", "train", "x:1"), Row("1" * 32, "b", "test", "x:2")]
    square = TargetData(rows, (), lambda *_: iter(()))
    kinds = [(64, 2.0), (32, 2.0), (64, 1.5)]
    digests = [replace(square, buckets=Buckets(512, step, ratio)).digest(512) for step, ratio in kinds]
    assert len({square.digest(512), *digests}) == 4
    assert square.digest(512)[:16] == "f1a4f3e995f20964"  # as before there were buckets: caches stay valid
