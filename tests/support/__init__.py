"""What tests share: footage, pairs, published results, scenes and servers in small."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HABITAT_STAND_IN = Path(__file__).resolve().parent / "stand_in"
