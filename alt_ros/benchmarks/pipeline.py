"""What the ROS graph costs: observation to chunk through the nodes, beside the bare functions.

Both are measured in one run on one machine, the graph first. The bare sum is preprocessing,
TorchScript forward and lookup on the observations that the graph itself published, in a process
with the graph still running idle beside it, so both see the same load.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.errors import AltError
from alt_ros.messages import observation_of
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.types import Query


def measure_pipeline(
    bundle: Path, log_folder: Path, *, observations: int, progress: Advance
) -> dict[str, Any]:
    """Run sim_bridge, camera_sync, encoder and lookup; time every observation to its chunk.

    Args:
        bundle: Folder of the bundle.
        log_folder: Where the nodes' logs go.
        observations: How many to time.
        progress: Called after every one.

    Returns:
        Milliseconds p50 and p99: graph, its encoder and lookup, the bare sum and its parts, and
        what the graph adds.

    Raises:
        AltError: A node died, or too few observations came.
    """
    from alt_ros.bundle import Bundle
    from alt_ros.nodes import graph as ros_graph

    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    from alt_ros.nodes.operator import Operator
    from alt_ros.nodes.pipeline_probe import PipelineProbe

    loaded = Bundle.load(bundle, encoder=False)
    files = ros_graph.simulation_config()
    with ros_graph.Graph(log_folder, variables, files) as graph:
        graph.start("sim_bridge")
        graph.start("camera_sync")
        for node, parameters in ros_graph.policy_nodes("alt", bundle).items():
            graph.start(node, parameters)
        with Operator(graph.check) as operator:
            probe = PipelineProbe(operator.node)
            deadline = time.monotonic() + 60.0 + observations / 10.0
            while len(probe.graph_ms) < observations:
                graph.check()
                if time.monotonic() > deadline:
                    raise AltError(
                        f"graph answered {len(probe.graph_ms)} of {observations} observations in "
                        f"time: see {log_folder}"
                    )
                progress(len(probe.graph_ms), observations)
                time.sleep(0.1)
            progress(observations, observations)
            samples = list(probe.observations)
            graph_ms, encoder_ms = list(probe.graph_ms), list(probe.encoder_ms)
            lookup_ms = list(probe.lookup_ms)
        for node in ("lookup", "encoder", "camera_sync"):
            graph.stop(node)
        bare = _bare(loaded, samples, observations)
    result: dict[str, Any] = {
        "observations": observations,
        "graph_ms": _percentiles(graph_ms),
        "graph_encoder_ms": _percentiles(encoder_ms),
        "graph_lookup_ms": _percentiles(lookup_ms),
        **{f"bare_{name}_ms": _percentiles(values) for name, values in bare.items()},
    }
    added = result["graph_ms"]["p50"] - result["bare_sum_ms"]["p50"]
    result["added_p50_ms"] = round(added, 3)
    result["ratio_p50"] = round(result["graph_ms"]["p50"] / result["bare_sum_ms"]["p50"], 3)
    return result | {"machine": machine()}


def _bare(bundle: Any, messages: Sequence[Any], repetitions: int) -> dict[str, list[float]]:
    """Return ms of each part on recorded observations, one after the other as they arrive."""
    encoder = bundle.load_encoder("auto", 1)
    lookup = bundle.lookup()
    observations = [observation_of(message) for message in messages]
    times: dict[str, list[float]] = {"preprocess": [], "forward": [], "lookup": [], "sum": []}
    for n in range(repetitions):
        observation = observations[n % len(observations)]
        start = time.perf_counter()
        inputs = encoder.preprocess(observation)
        prepared = time.perf_counter()
        values, view_values = encoder.forward(inputs)
        encoded = time.perf_counter()
        lookup.step(Query(observation.stamp, values[0], view_values[0], observation.poses))
        done = time.perf_counter()
        for name, seconds in (
            ("preprocess", prepared - start),
            ("forward", encoded - prepared),
            ("lookup", done - encoded),
            ("sum", done - start),
        ):
            times[name].append(1e3 * seconds)
        time.sleep(0.01)
    return times


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.asarray(values), [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}
