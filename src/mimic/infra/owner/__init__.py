"""Who works in a folder of work: one process at a time (`lock.py`), and none whose dvc is gone
(`parent.py`)."""

from mimic.infra.owner.lock import Ownership, all_owned, confirm_held, one_owner, owned

__all__ = ["Ownership", "all_owned", "confirm_held", "one_owner", "owned"]
