"""The choice among fields: the validation pixels decide, whatever the strategy."""

from __future__ import annotations

from slicesplat.estimate.alternate import sweep
from slicesplat.estimate.observations import Observations, Swept
from slicesplat.estimate.strategy import Candidate, FieldStrategy, Trials


def select(observations: Observations, strategy: FieldStrategy, best: Candidate, swept: Swept) -> Candidate:
    """The candidate that predicts the validation pixels best, among those tried from `best` on.

    A trial that is not better is not kept, and nor is its memory.
    """
    for trials in strategy.candidates(observations):
        best = _tried(observations, trials, best, swept)
    return best


def _tried(observations: Observations, trials: Trials, best: Candidate, swept: Swept) -> Candidate:
    for move in trials.moves:
        before = best.estimate.error
        rival = (1 + trials.tie) * before
        trial = sweep(observations, move(best), trials.sweeps, swept, rival)
        better = trial.estimate.error < rival
        on = trial.estimate.error < (1 - trials.worth) * before if trials.chain else not better
        if better and trials.between is not None and trial.estimate.error > (1 - trials.even) * before:
            trial = trials.between(best, trial)
        best, other = (trial, best) if better else (best, trial)
        other.objective.release(best.objective)  # the next one needs the memory
        if not on:
            break
    return best
