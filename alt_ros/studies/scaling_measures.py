"""What is measured of one table of the study ``scaling``: its graph, its time, what it detects."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import hnswlib
import numpy as np
from numpy.typing import NDArray

from alt_ros.benchmarks.ood_traces import Trace
from alt_ros.bundle import Bundle
from alt_ros.lookup.calibration import calibrate
from alt_ros.lookup.episodes import score_episodes
from alt_ros.lookup.index import (
    HNSW_EF_CONSTRUCTION,
    HNSW_FIRST_EF,
    HNSW_NEIGHBOURS,
    HNSW_SEED,
    TIE,
    HnswIndex,
    Index,
    Vectors,
)
from alt_ros.lookup.monitor import OodMonitor
from alt_ros.lookup.retrieval import Retrieval
from alt_ros.lookup.score import evenly_spaced
from alt_ros.lookup.scores import shipped_scores
from alt_ros.progress import Advance

ADDED = 10_000
"""Rows added to the graph from one report of progress to the next."""
PROBES = 500
MOST_EF = 1024
SECONDS = 10.0
"""Most time that one kind of search is timed for."""


def built_graph(
    embeddings: Vectors, threads: int, progress: Advance = lambda done, total: None
) -> HnswIndex:
    """Return the graph of (T, D) unit vectors as ``HnswIndex.build`` makes it, by more threads."""
    rows, dimension = embeddings.shape
    graph = hnswlib.Index(space="ip", dim=dimension)
    graph.init_index(
        max_elements=rows,
        M=HNSW_NEIGHBOURS,
        ef_construction=HNSW_EF_CONSTRUCTION,
        random_seed=HNSW_SEED,
    )
    for start in range(0, rows, ADDED):
        stop = min(start + ADDED, rows)
        graph.add_items(embeddings[start:stop], np.arange(start, stop), num_threads=threads)
        progress(stop, rows)
    index = HnswIndex(graph, dimension)
    index.ef = HNSW_FIRST_EF
    return index


def tune(index: HnswIndex, embeddings: Vectors) -> float:
    """Double ``ef`` until the table's own rows are found, as ``build_index`` does, to a limit.

    Returns:
        Share of the probed rows that are found.
    """
    probes = embeddings[evenly_spaced(len(embeddings), PROBES)]
    while True:
        found = hits(index, embeddings, probes, np.ones(len(probes)))
        if found == len(probes) or index.ef >= min(MOST_EF, len(index)):
            return found / len(probes)
        index.ef = min(2 * index.ef, MOST_EF)


def hits(index: Index, embeddings: Vectors, queries: Vectors, best: NDArray[np.floating]) -> int:
    """Return for how many queries a row as similar as the best one is found, to rounding."""
    return sum(
        float(embeddings[index.query(query, 1)[1][0]] @ query) >= similarity - TIE
        for query, similarity in zip(queries, best.tolist(), strict=True)
    )


def timed(ask: Callable[[Any], object], questions: Sequence[Any] | Vectors) -> list[float]:
    """Return the times of answers, ms; fewer where ``SECONDS`` pass. The first is not counted."""
    ask(questions[0])
    times: list[float] = []
    began = time.perf_counter()
    for question in questions:
        started = time.perf_counter()
        ask(question)
        times.append(1e3 * (time.perf_counter() - started))
        if time.perf_counter() - began > SECONDS:
            break
    return times


def detection(bundle: Bundle, traces: dict[str, Trace]) -> dict[str, Any]:
    """Calibrate a table on the trace ``calibration``; return what its monitor says of the others.

    Returns:
        ``threshold``, ``guarantee``, and for each other trace ``level`` and ``flag``: the level
        that each episode's flag is decided by, and whether it went up.
    """
    table, views, index = bundle.table, bundle.spec.views, bundle.index
    names = shipped_scores(table, views, bundle.correction is not None)
    episodes = traces["calibration"].episodes()
    scored = score_episodes(table, index, views, names, episodes, bundle.retrieval)
    calibration = calibrate(scored, names, monitor=bundle.monitor)
    retrieval = Retrieval(table, index, bundle.retrieval)
    monitor = OodMonitor(table, views, calibration, bundle.monitor)
    found: dict[str, Any] = {}
    for scenario, trace in traces.items():
        if scenario == "calibration":
            continue
        levels: list[float] = []
        flags: list[bool] = []
        for queries in trace.episodes():
            retrieval.reset()
            monitor.reset()
            decisions = [
                monitor.decide(
                    query,
                    retrieval.recall(
                        query.embedding, query.stamp, strange_below=monitor.strange_below
                    ),
                )
                for query in queries
            ]
            scores = np.array([decision.score for decision in decisions])
            levels.append(bundle.monitor.episode_level(scores))
            flags.append(any(decision.flag for decision in decisions))
        found[scenario] = {"level": levels, "flag": flags}
    return {
        "threshold": calibration.threshold,
        "guarantee": calibration.guarantee,
        "scenarios": found,
    }
