"""Write docs/nodes.md: topics from the table below, parameters from the nodes' dataclasses.

Run it in the environment: .venv/bin/python docs/write_nodes.py
"""

import dataclasses
import importlib
import json
from pathlib import Path

from alt_ros.nodes.node import AltNode
from alt_ros.nodes.parameters import table

PAGE = Path(__file__).with_name("nodes.md")

HEAD = """\
# The nodes

<!-- Written by docs/write_nodes.py; a test keeps it up to date. -->

`ros2 launch alt_ros alt.launch.py bundle:=FOLDER` starts the graph; `ros2 run alt_ros NODE` one
node; `NODE --help` prints its parameters. Topics and services are relative names: remap them to
the robot's own. Every node is a life-cycle node and publishes `/diagnostics`
(`diagnostic_msgs/DiagnosticArray`) once a second. When one of them dies, the launch ends with a
status that is not 0.

| launch argument | default | meaning |
|---|---|---|
| `policy` | `alt` | `alt`; one that was deployed into the bundle ([policies.md](policies.md)); \
or `none`: neither policy nor executor, to record demonstrations |
| `sim` | `false` | `true` starts sim_bridge and scripted_expert, on simulated time |
| `bundle` |  | folder of the bundle; required by a policy |
| `config` |  | parameter file on top of the package's own |
| `record` |  | starts episode_recorder with this folder |
| `console` | `false` | `true` starts the operator's page ([console.md](console.md)) |
| `log_level` | `info` | `debug`, `info`, `warn`, `error` or `fatal` |

Quality of service: *sensor* is best effort, keep last 50; *newest* best effort, keep last 1;
*reliable* keeps the last 10; *command* is reliable with a lifespan of 0.2 s; *latched* is reliable
and transient local, keep last 1.

Every node also has `autostart` (default `true`): configure and activate itself; `false` leaves
that to a life-cycle manager. `use_sim_time` is honoured everywhere. All others are read-only.
"""

SEEN = "best effort, keep last 10"
SUBSCRIBES, PUBLISHES, SERVES = "Subscribes", "Publishes", "Services"

POSE = ("eef_pose", "geometry_msgs/PoseStamped", "sensor", "measured end effector, base frame")
GRIPPER = ("gripper_state", "sensor_msgs/JointState", "sensor", "measured opening, m")
OBSERVATION = ("alt/observation", "alt_ros/Observation", "newest", "paired images with the pose")
EMBEDDING = ("alt/embedding", "alt_ros/Embedding", "reliable", "unit vector, and one of each view")
CHUNK = ("alt/action_chunk", "alt_ros/ActionChunk", "reliable", "Tp actions and their source")
RETURN_CHUNK = ("alt/return_chunk", "alt_ros/ActionChunk", "reliable", "the way back, on a flag")
OOD = ("alt/ood", "alt_ros/OodFlag", "reliable", "flag, level, threshold, cause, strangest view")
STAMP = ("alt/observation_stamp", "std_msgs/Header", "reliable", "stamp of every observation")
TWIST = ("target_twist", "geometry_msgs/TwistStamped", "command", "commanded velocity")
TRAJECTORY = (
    "joint_trajectory",
    "trajectory_msgs/JointTrajectory",
    "command",
    "commanded joints, one point",
)
JOINTS = ("joint_states", "sensor_msgs/JointState", "sensor", "measured joints, rad")
TARGET = ("target_pose", "geometry_msgs/PoseStamped", "command", "commanded end effector")
OPENING = ("target_gripper", "std_msgs/Float64", "command", "commanded opening, m")
EXPERT_DONE = ("sim/expert_done", "std_msgs/Bool", "latched", "whether the expert has finished")
CUP = ("sim/cup_pose", "geometry_msgs/PoseStamped", "reliable", "where the cup is")

# node module, class, and what it connects to
NODES = (
    (
        "camera_sync",
        "CameraSync",
        {
            SUBSCRIBES: [
                (
                    "<view>/image_raw",
                    "sensor_msgs/Image",
                    "sensor",
                    "each view; `<view>/image_raw/compressed` with `compressed`",
                ),
                POSE,
                ("/tf", "tf2_msgs/TFMessage", "keeps 100", "with `pose_source` tf"),
                ("/tf_static", "tf2_msgs/TFMessage", "latched", "with `pose_source` tf"),
                GRIPPER,
            ],
            PUBLISHES: [OBSERVATION, STAMP],
        },
    ),
    ("encoder", "Encoder", {SUBSCRIBES: [OBSERVATION], PUBLISHES: [EMBEDDING]}),
    ("lookup", "Lookup", {SUBSCRIBES: [EMBEDDING], PUBLISHES: [CHUNK, RETURN_CHUNK, OOD]}),
    ("policy", "PolicyNode", {SUBSCRIBES: [OBSERVATION], PUBLISHES: [CHUNK]}),
    (
        "executor",
        "ExecutorNode",
        {
            SUBSCRIBES: [
                CHUNK,
                (*RETURN_CHUNK[:3], "with `after_ood` return: the way back"),
                (
                    "alt/fallback_chunk",
                    "alt_ros/ActionChunk",
                    "reliable",
                    "with `after_ood` fallback: another policy's",
                ),
                OOD,
                STAMP,
                POSE,
                GRIPPER,
                JOINTS,
            ],
            PUBLISHES: [
                TARGET,
                TWIST,
                TRAJECTORY,
                OPENING,
                ("alt/state", "alt_ros/ExecutorState", "latched", "state, reason, latency"),
            ],
            SERVES: [
                ("alt/arm", "std_srvs/Trigger", "follow chunks; refused with the reasons"),
                ("alt/stop", "std_srvs/Trigger", "send nothing until armed again"),
                ("alt/hold", "std_srvs/Trigger", "brake, and hold until armed anew"),
                ("alt/disarm", "std_srvs/Trigger", "forget the episode, go idle"),
            ],
        },
    ),
    (
        "episode_recorder",
        "EpisodeRecorder",
        {
            SUBSCRIBES: [
                ("", "any", "as offered", "every topic of the two parameters below, unparsed")
            ],
            SERVES: [
                ("recorder/start", "alt_ros/StartRecording", "open a bag"),
                ("recorder/stop", "alt_ros/StopRecording", "close it, or discard it"),
            ],
        },
    ),
    (
        "sim_bridge",
        "SimBridge",
        {
            SUBSCRIBES: [TARGET, TWIST, TRAJECTORY, OPENING, EXPERT_DONE],
            PUBLISHES: [
                ("<view>/image_raw", "sensor_msgs/Image", "sensor", "wrist and third_person"),
                POSE,
                GRIPPER,
                JOINTS,
                ("/clock", "rosgraph_msgs/Clock", "reliable", "simulated time"),
                CUP,
                ("sim/success", "std_msgs/Bool", "latched", "whether the cup is held and lifted"),
            ],
            SERVES: [
                ("sim/reset", "alt_ros/ResetSimulation", "start a trial of a scenario"),
                ("sim/set_disturbance", "alt_ros/SetDisturbance", "make the scene strange"),
                ("sim/pause", "std_srvs/SetBool", "let time stand"),
                ("sim/step", "alt_ros/StepSimulation", "let a paused time run for a while"),
            ],
        },
    ),
    (
        "scripted_expert",
        "ScriptedExpertNode",
        {
            SUBSCRIBES: [CUP, POSE, GRIPPER],
            PUBLISHES: [TARGET, OPENING, EXPERT_DONE],
            SERVES: [("sim/demonstrate", "std_srvs/Trigger", "grasp the cup once")],
        },
    ),
    (
        "console",
        "ConsoleNode",
        {
            SUBSCRIBES: [
                (
                    "<view>/image_raw",
                    "sensor_msgs/Image",
                    "newest",
                    "each view; `<view>/image_raw/compressed` with `compressed`",
                ),
                *((*topic[:2], SEEN, topic[3]) for topic in (POSE, GRIPPER, STAMP, CHUNK, OOD)),
                ("alt/state", "alt_ros/ExecutorState", SEEN, "state and reason"),
                ("/diagnostics", "diagnostic_msgs/DiagnosticArray", SEEN, "of every node"),
            ],
        },
    ),
    (
        "replay",
        "Replay",
        {
            PUBLISHES: [
                ("", "the bag's", "reliable; latched as the bag says", "`topics` of `bag`"),
                ("", "rosgraph_msgs/Clock", "reliable", "/clock: the bag's time, with `clock`"),
            ],
        },
    ),
    (
        "fault_injector",
        "FaultInjector",
        {
            SUBSCRIBES: [("", "any of the graph's", "as offered", "`source` + each of `streams`")],
            PUBLISHES: [("", "the same", "as offered", "`sink` + each of `streams`")],
            SERVES: [("~/set_fault", "alt_ros/SetFault", "damage a stream, or let it be")],
        },
    ),
)
COLUMNS = {
    SUBSCRIBES: ("topic", "type", "quality", "carries"),
    PUBLISHES: ("topic", "type", "quality", "carries"),
    SERVES: ("service", "type", "does"),
}


def node_class(module: str, name: str) -> type[AltNode]:
    return getattr(importlib.import_module(f"alt_ros.nodes.{module}"), name)


def as_yaml(value: object) -> str:
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    text = json.dumps(value)
    return f"`{text}`".replace('"', "")


def page() -> str:
    parts = [HEAD]
    for module, name, interfaces in NODES:
        node = node_class(module, name)
        parts.append(f"\n## {module}\n\n{(node.__doc__ or '').strip()}\n")
        for kind, rows in interfaces.items():
            first, *others = COLUMNS[kind]
            parts.append(f"\n{kind}:\n\n| {first} | {' | '.join(others)} |\n")
            parts.append("|---" * (1 + len(others)) + "|\n")
            for topic, *cells in rows:
                topic = f"`{topic}`" if topic else "(parameters)"
                parts.append(f"| {topic} | {' | '.join(cells)} |\n")
        parts.append(
            "\nParameters:\n\n| name | default | allowed | meaning |\n|---|---|---|---|\n"
        )
        defaults = {field.name: field.default for field in dataclasses.fields(node.Parameters)}
        for parameter, _, allowed, meaning in table(node.Parameters):
            meaning = meaning.replace("<", "\\<")
            default = as_yaml(defaults[parameter])
            parts.append(f"| `{parameter}` | {default} | {allowed} | {meaning} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
