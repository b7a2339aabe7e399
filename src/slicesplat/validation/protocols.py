"""Simulations that others have published, so that figures can be set beside theirs."""

from __future__ import annotations

from typing import Literal

from slicesplat.validation.simulate import SimulationConfig

Protocol = Literal["gsvr"]

PROTOCOLS: dict[Protocol, SimulationConfig] = {
    "gsvr": SimulationConfig(
        stacks=3,
        motion="independent",
        thickness=3.0,
        spacing=3.0,
        pixel=0.5,
        noise=0.0,
        dropout=0.0,
        bias_field=0.0,
        slice_gain=0.0,
        interleave=1,
    )
}
"""By name. gsvr: Dannecker et al., MIDL 2026, Table 1: three orthogonal stacks of 0.5 x 0.5 x 3 mm, every slice turned
by up to 6 degrees about and moved by up to 4 mm along each axis, uniformly and by itself; of noise, dropouts and gains
nothing is said there, and there are none here."""
