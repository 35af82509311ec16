"""Polygons into triangles, all at once."""

import numpy as np


def triangulated(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fans of polygons whose corners are stored one polygon after the other; `counts` (polygons,) says how many each has.

    Returns the places of each triangle's corners in that storage, (triangles, 3), and the polygon it is of, (triangles,).
    A polygon of fewer than three corners makes none. A fan is right for convex polygons, which is what modellers and
    scanners write; the quads of a scan that are bent may fold along either diagonal.
    """
    first = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), triangles)
    within = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    start = first[polygon]
    return np.stack([start, start + within + 1, start + within + 2], axis=1), polygon
