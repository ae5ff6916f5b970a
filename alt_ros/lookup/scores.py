"""The scores of how strange an observation is, by name, and those that the monitor combines.

A score sees the query and what was recalled for it, and nothing else; what it keeps between two
observations of an episode, ``reset`` forgets. None knows a threshold: bands over ordinary
episodes make the scores comparable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.looks import (
    Cosine,
    Density,
    LocalDensity,
    Mahalanobis,
    NearestDemonstrations,
    View,
)
from alt_ros.lookup.moves import (
    ChunkOverlap,
    Disagreement,
    GuidingMotion,
    GuidingPose,
    Jumps,
    PathResidual,
    PoseResidual,
)
from alt_ros.lookup.score import Lasting, Score
from alt_ros.lookup.table import Table

SCORES: dict[str, type[Score]] = {
    "cosine": Cosine,
    "nearest_demonstrations": NearestDemonstrations,
    "local_density": LocalDensity,
    "mahalanobis": Mahalanobis,
    "density": Density,
    "jumps": Jumps,
    "chunk_overlap": ChunkOverlap,
    "disagreement": Disagreement,
    "pose_residual": PoseResidual,
    "path_residual": PathResidual,
    "guiding_pose": GuidingPose,
    "guiding_motion": GuidingMotion,
}
"""Name to score; and ``view:<name>`` for every view. ``<name>@<n>`` is ``Lasting`` of n."""
_VIEW, _LASTING = "view:", "@"
_OF_VIEWS = {"guiding_pose", "guiding_motion"}
_OF_ARMS = {"disagreement", "pose_residual", "path_residual", *_OF_VIEWS}
_MOST_LASTING = 1000


def score_names(table: Table, views: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all scores that a table of these views has, but for lasting ones."""
    names = [name for name in SCORES if table.layout.arms or name not in _OF_ARMS]
    if table.view_embeddings.shape[1] > 1:
        return (*names, *view_scores(views))
    return tuple(name for name in names if name not in _OF_VIEWS)


def shipped_scores(table: Table, views: Sequence[str], corrects: bool = False) -> tuple[str, ...]:
    """Return what the monitor combines unless told otherwise.

    None lasts for longer than half of the median demonstration.

    Args:
        table: The table.
        views: Names of the encoder's views.
        corrects: Recalled motions are corrected: the arm need not be where the demonstration's
            was, and the motion that is recalled is not quite the one that is followed.
    """
    half = max(int(np.median(np.diff(table.episode_ends, prepend=0))) // 2, 2)
    lasting = {"path_residual": 25, "guiding_pose": 30, "guiding_motion": 10}
    if corrects:
        lasting = {"guiding_pose": 30, "guiding_motion": 20}
    known = score_names(table, views)
    names = [f"{name}@{min(n, half)}" for name, n in lasting.items() if name in known]
    if not _OF_VIEWS.intersection(known):
        names.append(f"cosine@{min(20, half)}")
    names.append("cosine")
    return tuple(names)


def view_scores(views: Sequence[str]) -> tuple[str, ...]:
    """Return the name of every view's score."""
    return tuple(_VIEW + view for view in views)


def chosen_scores(
    table: Table, views: Sequence[str], names: Sequence[str] = (), corrects: bool = False
) -> tuple[str, ...]:
    """Return the names with ``view`` in full: every view's score, none where there is one view.

    No names: ``shipped_scores``.

    Raises:
        ConfigurationError: The table has no such score.
    """
    names = names or shipped_scores(table, views, corrects)
    known = score_names(table, views)
    every_view = [name for name in known if name.startswith(_VIEW)]
    chosen: list[str] = []
    for name in names:
        base, at, lasting = name.partition(_LASTING)
        chosen += [view + at + lasting for view in every_view] if base == "view" else [name]
    _check_known(chosen, known)
    return tuple(dict.fromkeys(chosen))


def make_scores(table: Table, views: Sequence[str], names: Collection[str]) -> dict[str, Score]:
    """Return scores by name.

    Args:
        table: What is ordinary.
        views: Names of the encoder's views.
        names: Which scores, in full.

    Raises:
        ConfigurationError: The table has no such score.
    """
    held = view_scores(views[: table.view_embeddings.shape[1]])
    if names:
        _check_known(names, tuple(dict.fromkeys((*score_names(table, views), *held))))
    scores: dict[str, Score] = {}
    for name in names:
        base, _, lasting = name.partition(_LASTING)
        score = View(table, held.index(base)) if base in held else SCORES[base](table)
        scores[name] = Lasting(table, score, int(lasting)) if lasting else score
    return scores


def _check_known(names: Collection[str], known: Sequence[str]) -> None:
    unknown: list[str] = []
    for name in names:
        base, at, lasting = name.partition(_LASTING)
        lasts = lasting.isascii() and lasting.isdigit() and 1 < int(lasting) <= _MOST_LASTING
        if base not in known or (at and not lasts):
            unknown.append(name)
    if unknown or not names:
        raise ConfigurationError(
            f"scores of this table are {', '.join(known)}, each also with @<n>, the least of the "
            f"last n observations, 2 to {_MOST_LASTING}; got {', '.join(unknown) or 'none'}"
        )


def score_class(name: str) -> type[Score]:
    """Return the class of a score by its name; of a lasting one, that of what lasts."""
    base = name.partition(_LASTING)[0]
    return View if base.startswith(_VIEW) else SCORES[base]
