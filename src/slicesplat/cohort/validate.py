"""Whether a data set is as BIDS wants it, by the validator of BIDS where it is installed."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

log = logging.getLogger("slicesplat")

VALIDATOR = "bids-validator-deno"
_TIMEOUT = 600.0
"""s: of a data set of 1000 sessions it takes some minutes."""


def faults(data_set: Path) -> Counter[str] | None:
    """How often the validator finds each error; None where it is not installed or does not tell.

    Intensities are not looked at, so that a large data set does not have to be read.
    """
    program = shutil.which(VALIDATOR) or shutil.which(VALIDATOR, path=str(Path(sys.executable).parent))
    if program is None:
        return None
    command = [program, str(data_set), "--ignoreNiftiHeaders", "--ignoreWarnings", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
        issues = json.loads(done.stdout)["issues"]["issues"]
        return Counter(str(issue["code"]) for issue in issues if issue.get("severity") == "error")
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return None


def warn_of_faults(data_set: Path) -> None:
    """Say which errors the validator finds; they need not matter for a reconstruction, so that nothing stops."""
    found = faults(data_set)
    if found:
        told = ", ".join(f"{code} ({count})" for code, count in sorted(found.items()))
        log.warning(
            "the data set has errors for %s: %s; %s shows where, --skip-bids-validation passes over them",
            VALIDATOR,
            told,
            VALIDATOR,
        )
    elif found is None:
        log.debug("%s is not installed or has not answered: the data set is not validated", VALIDATOR)
