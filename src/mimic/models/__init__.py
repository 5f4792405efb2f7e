"""One family of models: a vision transformer encoder, and the objectives that pretrain it.
Arrays and numbers in, arrays out."""

from mimic.models.objectives import OBJECTIVES, Objective, build
from mimic.models.spec import ROPE_BASE, Masking, ViTSize, visible_count

__all__ = ["OBJECTIVES", "ROPE_BASE", "Masking", "Objective", "ViTSize", "build", "visible_count"]
