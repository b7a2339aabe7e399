"""Which processor kernels are compiled for: this one, or a named one that others have too.

What is compiled for this very processor is the fastest, and of no use on another. An image is built on one machine and
runs on others, so it names the least that they all have, in ``SLICESPLAT_PROCESSOR``: a level of the x86-64 psABI
(https://gitlab.com/x86-psABIs/x86-64-ABI, section 3.1.1), or ``generic``, which every processor of the architecture is.
A processor that has less than what is named is compiled for as if nothing were named.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLE = "SLICESPLAT_PROCESSOR"

_V2 = ("cx16", "popcnt", "sahf", "sse3", "ssse3", "sse4.1", "sse4.2")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
PROCESSORS: Mapping[str, tuple[str, ...]] = {"generic": (), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
"""By LLVM's name, the features that it has beyond the architecture's own."""


def chosen_processor(named: str | None, features: Mapping[str, bool]) -> tuple[str | None, str | None]:
    """The processor to compile for, None for this one, and why it is not the named one, None where it is.

    Parameters
    ----------
    named : str or None
        What the variable holds.
    features : mapping
        LLVM's names of features, and whether this processor has them.

    Examples
    --------
    >>> chosen_processor("x86-64-v2", dict.fromkeys(PROCESSORS["x86-64-v3"], True))
    ('x86-64-v2', None)
    >>> chosen_processor("x86-64-v4", {"avx512f": False})[0]
    >>> chosen_processor("fast", {})
    (None, 'fast is none of generic, x86-64-v2, x86-64-v3, x86-64-v4')
    """
    if not named:
        return None, None
    if named not in PROCESSORS:
        return None, f"{named} is none of {', '.join(PROCESSORS)}"
    lacking = [feature for feature in PROCESSORS[named] if not features.get(feature)]
    if lacking:
        return None, f"this processor is not {named}: it lacks {', '.join(lacking)}"
    return named, None
