"""The paper's claim about Figure 1: one-shot or few cycles are as good as long iterative pruning, and far shorter."""

from __future__ import annotations

from analysis.claims import Contrast, Evidence, Finding, Key, per_cent
from analysis.paper.envelope import RunScores, common_seeds, settings
from analysis.verdicts import Half, judged

BASELINE = "LRW"
"""Schedule of Renda et al.'s iterative baseline; all other schedules make the envelope."""
SHARE = 0.1
"""Of the baseline's epochs, after which it is said to be met."""
REACHED = 0.9
"""Of that many epochs a grid has to go up to before it can show that they do not do."""


def baseline_met_early(evidence: Evidence) -> Finding:
    """By the setting that is best in validation among those with a tenth of the baseline's epochs at most.

    Sweeps without a budget for each cycle are about something else and have no comparison.
    """
    sparsities = evidence.sparsities if evidence.epochs and _rows(evidence, True) else ()
    contrasts, spanned, reasons = [], [], []
    for sparsity in sparsities:
        baseline = max(_keys(evidence, sparsity, True), key=lambda key: evidence.epochs[key], default=None)
        others = _keys(evidence, sparsity, False)
        enough = SHARE * evidence.epochs[baseline] if baseline else 0.0
        early = [key for key in others if evidence.epochs[key] <= enough + 0.01]
        contrasts.append(_contrast(evidence, sparsity, _selected(evidence, early, baseline), baseline))
        longest = max((evidence.epochs[key] for key in others), default=0.0)
        spanned.append(longest >= REACHED * enough > 0)
        if baseline and not spanned[-1]:
            reasons.append(f"{per_cent(sparsity)}: the grid ends at {longest:g} of {enough:g} epochs")
    places = range(len(contrasts))
    too_short = "where a grid ends before a tenth of the baseline's epochs, nothing speaks against the claim"
    return judged(
        "baseline-met-early",
        f"The iterative baseline is met after at most a tenth of its epochs ({', '.join(map(per_cent, sparsities))})",
        contrasts,
        evidence,
        [[Half(place) for place in places]],
        [[Half(place, above=False)] for place in places if spanned[place]],
        "signed-rank tests of the setting that is best in validation, among those of at most a tenth of the baseline's "
        "epochs, against the baseline: all above 0, or any below",
        [f"{too_short} ({'; '.join(reasons)})"] if reasons else [],
    )


def _rows(evidence: Evidence, baseline: bool) -> list[str]:
    return [row for row in evidence.rows if (evidence.factors[row][1] == BASELINE) == baseline]


def _keys(evidence: Evidence, sparsity: float, baseline: bool) -> list[Key]:
    rows = _rows(evidence, baseline)
    return [key for key in evidence.epochs if key[0] in rows and key[1] == sparsity]


def _selected(evidence: Evidence, keys: list[Key], baseline: Key | None) -> Key | None:
    """The best in mean validation over the seeds that the most complete settings share; of equal ones the shortest."""
    names = {f"{row}, {budget}": (row, sparsity, budget) for row, sparsity, budget in keys}
    runs = [
        RunScores(
            name, evidence.epochs[key], int(seed), float(validation), float(evidence.measured_at(*key).get(seed, 0.0))
        )
        for name, key in names.items()
        if baseline and evidence.as_sparse(key, baseline)
        for seed, validation in evidence.metric.oriented(evidence.validation[key]).items()
    ]
    best = max(settings(runs, common_seeds(runs)), key=lambda step: step.validation, default=None)
    return names[best.setting] if best else None


def _contrast(evidence: Evidence, sparsity: float, selected: Key | None, baseline: Key | None) -> Contrast:
    first, second = selected or ("no setting", sparsity, ""), baseline or ("no baseline", sparsity, "")
    words = [f"{row}, {budget}".removesuffix(", ") for row, _, budget in (first, second)]
    return Contrast(f"{words[0]} - {words[1]}, {per_cent(sparsity)}", lambda at: at(*first) - at(*second))
