"""Pick-a-Pic: pairs of pictures under one caption, and which of them a person preferred.

Columns as yuvalkirstain/pickapic_v2 has them: caption; jpg_0 and jpg_1, the pictures' bytes; label_0 and label_1, 1 for
the preferred one, 0.5 for both in a tie; has_label. Rules:

    winners only     the picture whose label is 1, as in Diffusion-DPO's public code (train.py: label_0 in (0, 1))
    tie              0.5 and 0.5: no winner, left out (paper: ties are no winners)
    no label         has_label is false, or a label is missing: left out
    winner met before  one row for each (winner, caption), the first that is met; its loser is that row's

What is left out is counted and is not bad; labels that say anything else are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from spin.core.errors import DataError
from spin.core.rejecting import Rejected
from spin.prepare.candidates import BAD_LABEL, TIE, UNLABELLED, Candidate, Candidates
from spin.prepare.file_lists import FileList, list_files
from spin.prepare.parquet_files import check_pictures, picture_bytes, read_records, read_schema

COLUMNS: Final = ("caption", "jpg_0", "jpg_1", "label_0", "label_1")
HAS_LABEL: Final = "has_label"
PICTURES: Final = ("jpg_0", "jpg_1")
TRAIN: Final = "train"

_NAMED_SPLIT: Final = re.compile(r"(train|validation|validation_unique|test|test_unique)-\d+-of-\d+.*")


def open_pickapic(path: Path, *, pairs: bool) -> Candidates:
    """Check the files at the door; the result reads their rows, as often as it is called.

    Args:
        path: a Parquet file, a folder, a glob or a brace list. Of files that are named by the data set's own splits,
            only those of the train split are read.
        pairs: the losers too.
    """
    files = _train_files(path)
    for _, file in files:
        schema = read_schema(file)
        require_pickapic(schema.names, where=str(file), fix="set data.source=parquet for a table of your own")
        for name in PICTURES:
            check_pictures(schema, file, name, key="data.path")
    return partial(_rows, files, pairs)


def require_pickapic(names: Sequence[str], *, where: str, fix: str) -> None:
    """Raise unless all columns that are read are among `names`."""
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        problem = f"no column {missing[0]!r}, so not Pick-a-Pic; columns are {', '.join(names) or 'none'}"
        raise DataError(problem, where=where, fix=fix)


def winner_of(record: Mapping[str, Any]) -> int:
    """0 or 1, which of a row's pictures won; Rejected with the rule, or with what is wrong, where none did."""
    labels = record["label_0"], record["label_1"]
    if record.get(HAS_LABEL) is False or any(label is None or label != label for label in labels):
        raise Rejected(UNLABELLED, "")
    if labels == (0.5, 0.5):
        raise Rejected(TIE, "")
    if labels not in ((1, 0), (0, 1)):
        raise Rejected(BAD_LABEL, f"label_0 {labels[0]}, label_1 {labels[1]}")
    return labels.index(1)


def _train_files(path: Path) -> FileList:
    found = list_files(path, ".parquet")
    splits = {file: named[1] for file in found.files if (named := _NAMED_SPLIT.fullmatch(file.stem))}
    train = tuple(file for file in found.files if splits.get(file, TRAIN) == TRAIN)
    if not train:
        others = ", ".join(sorted(set(splits.values())))
        raise DataError(
            f"holds only {others}, not the train split", where=str(path), fix="name files of the train split"
        )
    return FileList(found.root, train)


def _rows(files: FileList, pairs: bool) -> Iterator[Candidate]:
    for name, file in files:
        columns = [*COLUMNS, *([HAS_LABEL] if HAS_LABEL in read_schema(file).names else [])]
        for number, record in enumerate(read_records(file, columns), 1):
            yield _candidate(f"{name}:{number}", record, pairs)


def _candidate(origin: str, record: Mapping[str, Any], pairs: bool) -> Candidate:
    try:
        winner = winner_of(record)
    except Rejected as error:
        dropped = error.reason if error.reason in (TIE, UNLABELLED) else None
        return Candidate(origin, partial(_refuse, error), record["caption"], dropped=dropped)
    read, read_loser = (partial(picture_bytes, record[PICTURES[side]]) for side in (winner, 1 - winner))
    return Candidate(origin, read, record["caption"], read_loser if pairs else None)


def _refuse(error: Rejected) -> NoReturn:
    raise error
