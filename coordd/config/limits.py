"""Bounds on what a cluster holds (`quotaAndLimits.limits`).

Source of truth: Milvus 2.3.5 pkg/util/paramtable/quota_param.go.
"""

from typing import Annotated

from pydantic import Field

from coordd.config.keys import Key
from coordd.config.sections import Section

_LIMITS = "quotaAndLimits.limits"


class LimitsSettings(Section):
    """How many collections there may be."""

    max_collection_num: Annotated[int, Field(ge=1), Key(f"{_LIMITS}.maxCollectionNum", live=True)] = 65_536
    """Most collections in all databases together."""
    max_collection_num_per_db: Annotated[
        int, Field(ge=1), Key(f"{_LIMITS}.maxCollectionNumPerDB", live=True)
    ] = 65_536  # fmt: skip
    """Most collections in one database."""
