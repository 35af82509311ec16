"""Names of splits, as annotations files tell them."""

import re
from pathlib import Path

from vlkit.errors import UserError

# Names that the files of R2R, R4R, RxR and REVERIE give to splits.
SPLITS = ("train", "val_train_seen", "val_seen", "val_unseen", "test")


def split_name(annotations: Path, split: str | None = None) -> str | None:
    """The split that an annotations file is of: what its name tells, else `split`, the one that is asked for.

    Raises UserError where the name tells another split than the one that is asked for.
    """
    # Longest first, and as a whole word: val_train_seen is not train, and latest.json not test.
    longest_first = sorted(SPLITS, key=len, reverse=True)
    told = next((name for name in longest_first if re.search(rf"(?<![a-z]){name}(?![a-z])", annotations.name)), None)
    if split is None or told is None:
        return told or split
    if split not in annotations.name or told not in split:
        raise UserError(
            f"--split {split} does not fit --annotations {annotations}, a file of {told}; leave --split out or give the "
            "folder"
        )
    return split
