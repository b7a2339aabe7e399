"""Whether the stacks' bias fields are part of the model: the validation pixels decide.

They are fitted to what a field that knows nothing of them leaves unexplained, and are taken where they predict the
validation pixels clearly better. Where they do not, nothing has changed. docs/method.md, Bias fields.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from slicesplat.config import LikelihoodSettings
from slicesplat.estimate.observations import Estimate, Observations
from slicesplat.estimate.strategy import Candidate
from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.likelihood.bias_field import even_bias_field
from slicesplat.likelihood.robust import fit_gains
from slicesplat.likelihood.validation import squared_errors

log = logging.getLogger("slicesplat")


def with_bias_fields(observations: Observations, candidate: Candidate, settings: LikelihoodSettings) -> Candidate:
    """The same candidate, with bias fields where the data ask for them.

    Parameters
    ----------
    observations : Observations
    candidate : Candidate
        At the end of a sweep: with an image.
    settings : LikelihoodSettings
    """
    chosen, estimate = settings.bias_field, candidate.estimate
    if chosen is None or not settings.gains or estimate.image is None:
        return candidate
    even = even_bias_field(observations.slices, observations.fitted, chosen)
    begun = replace(estimate, weights=replace(estimate.weights, bias=even))
    lit = candidate.objective.bias_fields(observations, begun)
    lead = _lead(observations, estimate, lit, settings.pixel_limit)
    log.debug("bias fields lower the error of the validation pixels by %.1f standard errors", lead)
    return replace(candidate, estimate=replace(lit, image=None)) if lead > chosen.clear else candidate


def _lead(observations: Observations, even: Estimate, uneven: Estimate, limit: float) -> float:
    """By how many standard errors fields lower the squared error of the validation pixels, each with the best gains.

    Slices are what is independent: all pixels of one share its pose, its gain and what the field cannot draw.
    """
    slices, held, pixels = observations.slices, observations.validation, observations.pixels
    counts, squares = np.maximum(sum_over_slices(observations.fitted, slices), 1), []
    for estimate in (even, uneven):
        image, weights = estimate.image, estimate.weights
        assert image is not None
        lit = image if weights.bias is None else image * weights.bias.pixel
        gain = fit_gains(slices, pixels, lit, weights.pixel * observations.fitted, counts)
        squares.append(squared_errors(slices, held, pixels, image, replace(weights, gain=gain), limit)[0])
    gained = sum_over_slices(squares[0] - squares[1], slices)
    return float(gained.sum() / max(np.sqrt(np.square(gained).sum()), 1e-12))
