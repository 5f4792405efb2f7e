"""On which machine work runs: `local` or `slurm` by params; a stage never knows. The only place for
process groups and submitit.

Nothing heavy is imported here: a worker process reads this first, and must set its thread limits
before numpy loads.
"""

from mimic.infra.cluster.failures import ItemsFailed, TrainingFailed
from mimic.infra.cluster.items import map_items
from mimic.infra.cluster.local import available_cores
from mimic.infra.cluster.stop import Stop, Stopped
from mimic.infra.cluster.training import run_training, run_trainings

__all__ = [
    "ItemsFailed",
    "Stop",
    "Stopped",
    "TrainingFailed",
    "available_cores",
    "map_items",
    "run_training",
    "run_trainings",
]
