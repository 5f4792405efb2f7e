"""Who works in a folder of work: one process at a time (`lock.py`), and none whose dvc is gone
(`parent.py`)."""

from mimic.infra.owner.lock import FILE, Ownership, all_owned, confirm_held, one_owner, owned

__all__ = ["FILE", "Ownership", "all_owned", "confirm_held", "one_owner", "owned"]
