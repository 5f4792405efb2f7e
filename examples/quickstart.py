"""Mine pairs, pretrain an encoder on them, and read its features.

    python examples/quickstart.py my_videos/ my_photos/

The pairs go to my_pairs/, the work to my_work/; run it again to go on where it was interrupted.
README shows the same lines.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import mimic

STEPS = 200  # a minute on two cores; a useful encoder takes many thousands


def main(paths: Sequence[str], steps: int = STEPS) -> None:
    mined = mimic.mine_pairs(paths, out="my_pairs")
    print(f"kept {mined.kept} of {mined.candidates} candidates: {mined.outcomes}")
    model = mimic.pretrain_encoder(mined.folder, out="my_work", recipe="croco-tiny", steps=steps)
    encoder = mimic.load_encoder(model)
    images = sorted(path for path in Path(paths[-1]).glob("*.jpg"))[:2]
    features = mimic.extract_features(encoder, images)  # float32 [images, patches, width]
    print(f"{model}: features {features.shape}")


if __name__ == "__main__":  # mining starts processes, which import this file
    main(sys.argv[1:])
