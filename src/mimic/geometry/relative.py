"""Poses relative to each other: one pose from several neighbours, and how far it is off. Poses are
4 x 4, camera to world, metres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial.transform import Rotation

# ratio of the normal equations' eigenvalues: lines within half a degree of a common direction meet
# anywhere
PARALLEL = 1e-4
# a pose that counts as found
WITHIN_M = 0.05
WITHIN_DEG = 5.0


def rotation_error_deg(a: Float[np.ndarray, "3 3"], b: Float[np.ndarray, "3 3"]) -> float:
    """The angle of the rotation between two; 0 to 180."""
    return float(np.degrees(Rotation.from_matrix(a.T @ b).magnitude()))


def median_rotation(rotations: Float[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, "3 3"]:
    """The median of each component of the quaternions, normalised: robust against a few wrong ones.

    A rotation has two quaternions; of each the one is taken that lies on the side of their common
    axis.
    """
    quaternions = Rotation.from_matrix(rotations).as_quat()
    axis = np.linalg.eigh(quaternions.T @ quaternions)[1][:, -1]
    return Rotation.from_quat(
        np.median(quaternions * np.where(quaternions @ axis < 0, -1, 1)[:, None], axis=0)
    ).as_matrix()


def meeting_point(
    origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]
) -> Float64[np.ndarray, "3"] | None:
    """The point nearest to all lines in the least-squares sense; None for fewer than two, or where
    they are (nearly) parallel."""
    length = np.linalg.norm(directions, axis=1)
    unit = directions[length > 0] / length[length > 0, None]
    across = np.eye(3) - unit[:, :, None] * unit[:, None, :]
    system = across.sum(axis=0)
    values = np.linalg.eigvalsh(system)
    if values[0] <= PARALLEL * values[-1]:
        return None
    return np.linalg.solve(system, (across @ origins[length > 0, :, None]).sum(axis=0)[:, 0])


def placed(
    rotations: Float[np.ndarray, "n 3 3"],
    translations: Float[np.ndarray, "n 3"],
    neighbours: Float[np.ndarray, "n 4 4"],
) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "4 4"]]:
    """The pose of a query by its first neighbour alone and by all of them.

    Alone: rotation and metric translation as they are. All: the median rotation, and the point
    where the directions of translation meet, their lengths unused; where they do not meet, the
    first neighbour's place.

    Args:
        rotations, translations: of neighbour_from_query, each in the axes of its neighbour.
        neighbours: their poses, the best first.
    """
    turned = neighbours[:, :3, :3] @ rotations
    steps = (neighbours[:, :3, :3] @ translations[:, :, None])[:, :, 0]
    first = np.eye(4)
    together = np.eye(4)
    first[:3, :3] = turned[0]
    first[:3, 3] = neighbours[0, :3, 3] + steps[0]
    meeting = meeting_point(neighbours[:, :3, 3], steps)
    together[:3, :3] = median_rotation(turned)
    together[:3, 3] = first[:3, 3] if meeting is None else meeting
    return first, together


def pose_errors(
    estimated: Float[np.ndarray, "n 4 4"], truth: Float[np.ndarray, "n 4 4"]
) -> Float64[np.ndarray, "n 2"]:
    """Metres between the centres and degrees between the rotations."""
    away = np.linalg.norm(estimated[:, :3, 3] - truth[:, :3, 3], axis=1)
    turned = [
        rotation_error_deg(a[:3, :3], b[:3, :3]) for a, b in zip(estimated, truth, strict=True)
    ]
    return np.column_stack([away, turned])


def summary(errors: Float[np.ndarray, "n 2"]) -> dict[str, float]:
    """The field's numbers of one scene: medians, and the share of queries right within 5 cm and 5
    degrees at once."""
    within = (errors[:, 0] < WITHIN_M) & (errors[:, 1] < WITHIN_DEG)
    return {
        "median_error_m": float(np.median(errors[:, 0])),
        "median_error_deg": float(np.median(errors[:, 1])),
        "within_5cm_5deg": float(within.mean()),
    }


def median_standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Standard error of the median of independent values, whatever their distribution: half the
    span of the middle sqrt(n) ranks.

    The number of values below the true median is binomial with deviation sqrt(n) / 2.
    """
    middle = 0.5
    spread = 0.5 / np.sqrt(len(values))
    low, high = np.quantile(values, [max(0.0, middle - spread), min(1.0, middle + spread)])
    return float(high - low) / 2
