"""What a shard of samples is made from; no torch."""

from __future__ import annotations

from typing import Any

from spin.core.plan import Plan
from spin.sample.request import SampleRequest


def shard_identity(request: SampleRequest, plan: Plan) -> dict[str, Any]:
    """What a shard's bytes are a function of, besides the class of equal bits."""
    mirrored = {"store_mirrored": True} if request.store_mirrored else {}  # shards of runs without flips stay valid
    identity = {
        **mirrored,
        **request.approximation.settings,  # nothing where sampling is exact, for the same reason
        "plan": plan.plan_hash,
        "opponent": request.opponent_digest,
        "guidance_scale": request.guidance_scale,
        "num_inference_steps": request.num_inference_steps,
        "scheduler": request.scheduler,
        "loser_source": request.loser_source,
        "store_images": request.store_images,
        "store_trajectory": request.store_trajectory,
        "dtype": request.dtype,
    }
    if request.safety is not None:
        identity["checker"] = request.safety.identity
    return identity
