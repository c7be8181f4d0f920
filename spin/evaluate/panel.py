"""All judges of an evaluation at work together: pictures are decoded and prepared once, ahead of the networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from spin.core.plan import padded_batches
from spin.core.rejecting import Rejected
from spin.diffusion.decoding import load_picture, pixel_limit, rejecting
from spin.evaluate.preparing import rgb_then_floor_crop, shared
from spin.evaluate.scorer import Judgement, Preparation, Scorer

_AHEAD: Final = 2  # batches that are prepared while one is judged
MAX_IMAGE_PIXELS: Final = 89_478_485  # Pillow's own bound for a decompression bomb

_Prepared = dict[Preparation, Tensor] | Rejected


@dataclass(frozen=True)
class Panel:
    """Judges that share what they can: equal preparations of a picture, the decoding, the text of a prompt.

    Args:
        judges: every one is asked for every picture.
        workers: threads that decode and prepare; PIL lets go of the interpreter while it works.
    """

    judges: Sequence[Scorer]
    batch_size: int
    workers: int = 2

    def judge(
        self, pictures: Sequence[bytes], prompts: Sequence[str]
    ) -> Iterator[tuple[int, Mapping[str, Judgement], Rejected | None]]:
        """Index of each picture in order, and its judgements, or why it cannot be judged.

        Batches have one fixed shape, the last one padded; a rejected picture is a blank one in its batch.
        """
        for judge in self.judges:
            judge.expect(prompts)
        with pixel_limit(MAX_IMAGE_PIXELS), ThreadPoolExecutor(self.workers, "prepare") as pool:
            batches = iter(list(padded_batches(range(len(pictures)), self.batch_size)))
            waiting: deque[tuple[list[int], list[Future[_Prepared]]]] = deque()

            def ahead(count: int) -> None:
                for batch in islice(batches, count):
                    fresh = dict.fromkeys(batch)
                    futures = {i: pool.submit(self._prepared, pictures[i]) for i in fresh}
                    waiting.append((batch, [futures[i] for i in batch]))

            ahead(1 + _AHEAD)
            while waiting:
                batch, futures = waiting.popleft()
                prepared = [future.result() for future in futures]
                ahead(1)
                found = self._judge(prepared, [prompts[i] for i in batch])
                for row, i in enumerate(dict.fromkeys(batch)):
                    rejected = prepared[row]
                    own = {name: _row(judgement, row) for name, judgement in found.items()}
                    yield i, own, rejected if isinstance(rejected, Rejected) else None

    def _prepared(self, picture: bytes) -> _Prepared:
        try:
            with rejecting(len(picture)):
                image = load_picture(picture)
                return {preparation: preparation(image) for preparation in self._preparations(image)}
        except Rejected as rejected:
            return rejected

    def _preparations(self, image: Image.Image) -> dict[Preparation, None]:
        return dict.fromkeys(shared(judge.prepare, image) for judge in self.judges)

    def _judge(self, prepared: Sequence[_Prepared], prompts: Sequence[str]) -> dict[str, Judgement]:
        whole = [found for found in prepared if not isinstance(found, Rejected)]
        if not whole:
            return {}
        stacks: dict[tuple[int, ...], Tensor] = {}  # by the tensors in it: equal lists are one stack
        judgements = {}
        for judge in self.judges:
            tensors = [_tensor_of(judge, found, like=whole[0]) for found in prepared]
            key = tuple(map(id, tensors))
            if key not in stacks:
                stacks[key] = torch.stack(tensors)
            judgements[judge.name] = judge.judge(stacks[key], prompts)
        return judgements


def _tensor_of(judge: Scorer, prepared: _Prepared, *, like: dict[Preparation, Tensor]) -> Tensor:
    """The picture as this judge wants it; in place of a rejected one any other, so that the batch keeps its shape."""
    found = like if isinstance(prepared, Rejected) else prepared
    if judge.prepare in found:
        return found[judge.prepare]
    return found[rgb_then_floor_crop]


def _row(judgement: Judgement, row: int) -> Judgement:
    vectors = judgement.embeddings
    return Judgement(judgement.scores[row], None if vectors is None else vectors[row])
