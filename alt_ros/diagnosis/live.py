"""Judges a survey of a live graph: every stream, how they fit, the bundle, commands and nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from alt_ros.diagnosis.bundle_fit import BundleExpectation, judge_bundle
from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.pairing import judge_pairing
from alt_ros.diagnosis.streams import judge_stream
from alt_ros.diagnosis.timing import timing_of
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.topic_record import COMPRESSED, IMAGE, Ends, Survey

GRAPH, COMMANDS, NODES = "graph", "commands", "our nodes"
# In simulation it is there beside the executor, and sends while it demonstrates.
DEMONSTRATOR = "scripted_expert"
# What every node has, this listener too.
OF_EVERY_NODE = ("/parameter_events", "/rosout")
LEVELS = ("ok", "warning", "error", "stale")
ERROR, STALE = 2, 3


def judge_survey(
    survey: Survey,
    sensors: CameraSyncParameters,
    executor: ExecutorParameters,
    bundle: BundleExpectation | None = None,
    reach: str = "",
) -> list[Finding]:
    """Return what is to be said about a live graph.

    Args:
        survey: What was heard.
        sensors: How camera_sync takes it.
        executor: What the executor sends.
        bundle: What the bundle was made of, where it is held against that.
        reach: Discovery range in force.
    """
    timings = {
        role: timing_of(list(stream.messages), on_clock=survey.clock)
        for role, stream in survey.streams.items()
    }
    findings = [*_graph(survey, reach)]
    for role, stream in survey.streams.items():
        limit = (
            executor.max_chunk_age if stream.kind in (IMAGE, COMPRESSED) else executor.pose_timeout
        )
        same_type = sorted(t for t, kinds in survey.topics.items() if stream.kind in kinds)
        findings += judge_stream(stream, timings[role], sensors, limit, same_type)
    findings += judge_pairing(survey.streams, timings, sensors)
    if bundle is not None:
        findings += judge_bundle(bundle, survey.streams, timings, sensors)
    findings += judge_commands(survey.commands, executor)
    findings += judge_nodes(survey.diagnostics, survey.nodes)
    return findings


def _graph(survey: Survey, reach: str) -> Iterator[Finding]:
    topics = [t for t in survey.topics if t not in OF_EVERY_NODE]
    where = f"domain {survey.domain}" + (f", discovery range {reach}" if reach else "")
    detail = f"{len(survey.nodes)} nodes, {len(topics)} topics in {where}; {survey.seconds:g} s"
    if not topics:
        remedy = (
            "start the drivers; else: the same ROS_DOMAIN_ID (--domain N) and RMW_IMPLEMENTATION "
            "as they have, ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET for another computer, multicast "
            "through firewall and container (docker --net=host --ipc=host)"
        )
        yield Finding("topics", False, f"nobody publishes: {detail}", remedy, group=GRAPH)
    else:
        yield Finding("topics", True, detail, group=GRAPH)
    if survey.clock:
        said = "/clock is published: stamps are compared with it, not with this host's clock"
        hint = "every node needs use_sim_time: true"
        yield Finding("time", True, said, hint, required=False, group=GRAPH)


def judge_commands(
    commands: Mapping[str, Ends], executor: ExecutorParameters
) -> Iterator[Finding]:
    """Yield who commands the arm, and who listens.

    Args:
        commands: Topic to who is on it; the arm's first.
        executor: What it sends.
    """
    for number, (topic, ends) in enumerate(commands.items()):
        yield _command(topic, ends, executor.controller, is_arm=number == 0)


def _command(topic: str, ends: Ends, controller: str, *, is_arm: bool) -> Finding:
    listeners, senders = (
        ", ".join(sorted({end.node for end in group}))
        for group in (ends.subscribers, ends.publishers)
    )
    detail = f"from {senders or 'nobody yet'} to {listeners or 'nobody'}"
    if not ends.subscribers:
        remedy = (
            f"start the arm's controller, or remap what it listens to: -r {topic[1:]}:=ITS_TOPIC"
        )
        return Finding(topic, False, detail, remedy, required=is_arm, group=COMMANDS)
    names = {end.node.rpartition("/")[2] for end in ends.subscribers}
    if is_arm and controller and controller not in names:
        remedy = f"start {controller}, or correct the executor's parameter controller"
        return Finding(topic, False, detail, remedy, group=COMMANDS)
    if ends.mismatches:
        remedy = "let the controller subscribe reliable or best effort, and volatile"
        lost = "; ".join(ends.mismatches[:2])
        return Finding(topic, False, f"{detail}: {lost}", remedy, bool(ends.unheard), COMMANDS)
    hands = {end.node for end in ends.publishers if end.node.rpartition("/")[2] != DEMONSTRATOR}
    if len(hands) > 1:
        remedy = "let only one send at a time: an arm under two hands moves as neither wants"
        return Finding(topic, False, detail, remedy, required=False, group=COMMANDS)
    return Finding(topic, True, detail, group=COMMANDS)


def judge_nodes(
    diagnostics: Mapping[str, tuple[int, str]], nodes: tuple[str, ...] = ()
) -> Iterator[Finding]:
    """Yield what our nodes say of themselves.

    Args:
        diagnostics: Name of a node to the level and text that it reported last.
        nodes: All nodes.
    """
    if not diagnostics:
        detail = f"none reports; {len(nodes)} other nodes" if nodes else "none"
        remedy = "alt up --bundle FOLDER starts them"
        yield Finding("diagnostics", True, detail, remedy, required=False, group=NODES)
        return
    for name, (level, text) in sorted(diagnostics.items()):
        if level == 0:
            yield Finding(name, True, text, group=NODES)
            continue
        said = f"{LEVELS[level] if level < len(LEVELS) else level}: {text}"
        remedy = "it says why; what is wrong above comes first; then its log"
        if level == STALE:
            remedy = f"see its log; ros2 lifecycle set /{name} activate"
        yield Finding(name, False, said, remedy, required=level == ERROR, group=NODES)
