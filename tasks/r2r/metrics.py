"""The measures of navigation on a graph: how tables and published files call them.

`scores` computes them; it lives in `vlkit.envs.measures`, for the environment reports them at the end of an episode.
"""

from vlkit.envs.measures import SUCCESS_M, UNITS, scores

__all__ = ["LABELS", "PUBLISHED", "SUCCESS_M", "UNITS", "scores"]

LABELS = {
    "length": "TL, trajectory length",
    "nav_error": "NE, navigation error",
    "oracle_error": "oracle error",
    "steps": "steps",
    "success": "SR, success rate",
    "oracle_success": "OSR, oracle success rate",
    "spl": "SPL",
    "ndtw": "nDTW",
    "sdtw": "SDTW",
    "cls": "CLS",
}
# The reference evaluator's names (a space among them) and ours.
PUBLISHED = {
    "length": "length",
    "nav_error": "nav_error",
    "oracle success_rate": "oracle_success",
    "success_rate": "success",
    "spl": "spl",
}
