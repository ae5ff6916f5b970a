"""The drills as a table: what is done to the running graph, and what it must do then.

``alt bench faults`` and the tests of the running graph take the same entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class World(str, Enum):
    """Which graph a drill runs on."""

    SIMULATED = "simulated time"
    SYSTEM = "system time"
    NETWORK = "network"


class Action(str, Enum):
    """What is done; ``undo`` in brackets."""

    DAMAGE = "damage"  # a stream (well again)
    KILL = "kill"  # a node with SIGKILL (started anew)
    END = "end"  # a node with SIGTERM (started anew)
    FREEZE = "freeze"  # a node with SIGSTOP (SIGCONT)
    DEACTIVATE = "deactivate"  # a node by its life cycle (activated)
    PAUSE = "pause"  # simulated time (goes on)
    LOAD = "load"  # every core with a busy process (they end)
    CLOCK = "clock"  # set the system's clock by an amount of seconds (it stays)
    CUT = "cut"  # a node off the network (back)


class After(str, Enum):
    """How a drill must end once the cause is gone."""

    RUNS_ON = "never stopped"
    RECOVERS = "recovered"
    LATCHED = "latched"


RUNNING, HOLDING, STOPPED, FAULT = "running", "holding", "stopped", "fault"
SILENT = "silent"
"""Declared response where no state can be told: the commands end."""
COPES = "running or holding"
"""Declared response where too little may be left of the machine: no other state than these."""

WRIST, THIRD = "wrist/image_raw", "third_person/image_raw"
POSE, GRIPPER, CHUNK = "eef_pose", "gripper_state", "alt/action_chunk"
RELAY = "command_relay"

NO_OBSERVATION, NO_CHUNK = "no observation", "no action chunk"
# Where both stop at once, which of the two is missed first is chance.
NO_POLICY = f"{NO_CHUNK}|no decision of the monitor"
NO_POSE, NOT_FOLLOWED = "no pose of the arm", "arm does not follow"

# Half a second of the machine's own time on top of the executor's time-outs.
OBSERVATION_MS, CHUNK_MS, POSE_MS, AT_ONCE_MS = 900, 1000, 700, 500


@dataclass(frozen=True)
class Drill:
    """One fault and what must follow.

    Attributes:
        name: Short name.
        what: One sentence of what is done.
        action: What is done.
        on: The stream or the node.
        response: Declared state, ``silent`` or ``running or holding``.
        reason: Words of the declared reason; "a|b" for either.
        limit_ms: Longest time to the response.
        after: How it must end.
        kind, amount: Of the damage; of the clock's step in seconds.
        seconds: How long the cause stands.
        refusal: Words of the reason why arming is refused while the cause stands; empty: not
            tried.
        world: Which graph.
    """

    name: str
    what: str
    action: Action
    on: str
    response: str
    reason: str
    limit_ms: int
    after: After
    kind: str = ""
    amount: float = 0.0
    seconds: float = 1.0
    refusal: str = ""
    world: World = World.SIMULATED


def _killed(node: str, reason: str, limit_ms: int) -> Drill:
    """Return a drill of a node that is missing for longer than a hold may last."""
    return Drill(
        f"{node} killed",
        f"kill -9 of {node}, started anew after the hold has timed out",
        Action.KILL,
        node,
        HOLDING,
        reason,
        limit_ms,
        After.LATCHED,
        seconds=6.0,
        refusal=reason,
    )


def _camera(name: str, topic: str) -> tuple[Drill, ...]:
    def holds(kind: str, what: str, amount: float = 0.0) -> Drill:
        return Drill(
            f"{name} camera {what}",
            f"the {name} camera's images: {kind}",
            Action.DAMAGE,
            topic,
            HOLDING,
            NO_OBSERVATION,
            OBSERVATION_MS,
            After.RECOVERS,
            kind,
            amount,
            refusal=NO_OBSERVATION,
        )

    def runs(kind: str, what: str, amount: float) -> Drill:
        return Drill(
            f"{name} camera {what}",
            f"the {name} camera's images: {kind}",
            Action.DAMAGE,
            topic,
            RUNNING,
            "",
            0,
            After.RUNS_ON,
            kind,
            amount,
            seconds=2.0,
        )

    black = Drill(
        f"{name} camera goes black",
        f"every pixel of the {name} camera is 0",
        Action.DAMAGE,
        topic,
        HOLDING,
        "out of distribution",
        OBSERVATION_MS,
        After.LATCHED,
        "black",
        refusal="out of distribution",
    )
    return (
        holds("freeze", "freezes"),
        holds("stop", "unplugged"),
        holds("resize", "swaps size", 0.5),
        holds("shift", "clock 2 s behind", -2.0),
        runs("slow", "slows to 5 Hz", 4.0),
        runs("drop", "drops 5 %", 0.05),
        black,
    )


def _chunks(
    what: str, kind: str, amount: float = 0.0, reason: str = NO_CHUNK, limit_ms: int = CHUNK_MS
) -> Drill:
    return Drill(
        f"policy sends {what}",
        f"every chunk is altered: {kind}",
        Action.DAMAGE,
        CHUNK,
        HOLDING,
        reason,
        limit_ms,
        After.RECOVERS,
        kind,
        amount,
    )


def _arm(what: str, stream: str, kind: str, reason: str, amount: float = 0.0) -> Drill:
    refusal = NO_POSE if reason == NO_POSE else ""
    return Drill(
        what,
        f"what the driver says on {stream}: {kind}",
        Action.DAMAGE,
        stream,
        FAULT,
        reason,
        POSE_MS,
        After.LATCHED,
        kind,
        amount,
        refusal=refusal,
    )


DRILLS: tuple[Drill, ...] = (
    *_camera("wrist", WRIST),
    *_camera("third-person", THIRD),
    _arm("pose stops", POSE, "stop", NO_POSE),
    _arm("pose freezes", POSE, "freeze", NO_POSE),
    _arm("pose goes NaN", POSE, "nan", NO_POSE),
    _arm("pose jumps 20 cm", POSE, "jump", NOT_FOLLOWED, 0.2),
    Drill(
        "gripper state stops",
        "nothing more on gripper_state",
        Action.DAMAGE,
        GRIPPER,
        HOLDING,
        NO_OBSERVATION,
        OBSERVATION_MS,
        After.RECOVERS,
        "stop",
    ),
    Drill(
        "gripper state goes NaN",
        "every opening on gripper_state is NaN",
        Action.DAMAGE,
        GRIPPER,
        HOLDING,
        NO_OBSERVATION,
        OBSERVATION_MS,
        After.RECOVERS,
        "nan",
    ),
    _chunks("chunks of 2 s ago", "shift", -2.0),
    _chunks("chunks for in 2 s", "shift", 2.0),
    _chunks("a million rows", "lengthen", 1e6, limit_ms=1500),  # 80 MB for DDS
    _chunks("9 columns for 10", "narrow", 1.0, ""),
    _chunks("two arms", "widen", 2.0),
    _chunks("NaN", "nan"),
    _chunks("targets 20 cm away", "move", 0.2, "target is "),
    Drill(
        "encoder takes 3 s",
        "SIGSTOP of encoder for 3 s",
        Action.FREEZE,
        "encoder",
        HOLDING,
        NO_POLICY,
        CHUNK_MS,
        After.RECOVERS,
        seconds=3.0,
        refusal=NO_CHUNK,
    ),
    Drill(
        "lookup takes 3 s",
        "SIGSTOP of lookup for 3 s",
        Action.FREEZE,
        "lookup",
        HOLDING,
        NO_POLICY,
        CHUNK_MS,
        After.RECOVERS,
        seconds=3.0,
        refusal=NO_CHUNK,
    ),
    Drill(
        "executor starved",
        "SIGSTOP of executor for 1 s",
        Action.FREEZE,
        "executor",
        SILENT,
        "",
        AT_ONCE_MS,
        After.RECOVERS,
    ),
    _killed("camera_sync", NO_OBSERVATION, OBSERVATION_MS),
    _killed("encoder", NO_POLICY, CHUNK_MS),
    _killed("lookup", NO_POLICY, CHUNK_MS),
    Drill(
        "executor killed",
        "kill -9 of executor, started anew",
        Action.KILL,
        "executor",
        SILENT,
        "",
        AT_ONCE_MS,
        After.LATCHED,
    ),
    Drill(
        "simulator killed",
        "kill -9 of sim_bridge: arm, cameras and time are gone",
        Action.KILL,
        "sim_bridge",
        SILENT,
        "",
        AT_ONCE_MS,
        After.LATCHED,
    ),
    Drill(
        "recorder killed",
        "kill -9 of episode_recorder",
        Action.KILL,
        "episode_recorder",
        RUNNING,
        "",
        0,
        After.RUNS_ON,
    ),
    # Before the next one: a node that was killed is still seen listening for DDS's lease time.
    Drill(
        "command subscriber gone",
        "the relay between executor and arm leaves",
        Action.END,
        RELAY,
        FAULT,
        "no controller",
        600,
        After.LATCHED,
        refusal="no controller",
    ),
    Drill(
        "command subscriber killed",
        "kill -9 of the relay between executor and arm",
        Action.KILL,
        RELAY,
        FAULT,
        f"{NOT_FOLLOWED}|no controller",
        1500,
        After.LATCHED,
    ),
    Drill(
        "executor deactivated",
        "executor is deactivated by its life cycle",
        Action.DEACTIVATE,
        "executor",
        STOPPED,
        "deactivated",
        AT_ONCE_MS,
        After.LATCHED,
        refusal="not active",
    ),
    Drill(
        "camera_sync deactivated",
        "camera_sync is deactivated by its life cycle",
        Action.DEACTIVATE,
        "camera_sync",
        HOLDING,
        NO_OBSERVATION,
        OBSERVATION_MS,
        After.RECOVERS,
        refusal=NO_OBSERVATION,
    ),
    Drill(
        "simulated time paused",
        "sim/pause: /clock stands still",
        Action.PAUSE,
        "sim_bridge",
        SILENT,
        "",
        AT_ONCE_MS,
        After.RECOVERS,
    ),
    Drill(
        "cores loaded",
        "a busy process for every core",
        Action.LOAD,
        "",
        COPES,
        "",
        0,
        After.RECOVERS,
        seconds=4.0,
    ),
    *(
        Drill(
            f"system clock set {word} by 2 s",
            f"every node's system clock goes {word} by 2 s, the monotonic clock runs on",
            Action.CLOCK,
            "",
            HOLDING,
            "clock jumped",
            AT_ONCE_MS,
            After.RECOVERS,
            amount=amount,
            seconds=0.0,
            world=World.SYSTEM,
        )
        for word, amount in (("back", -2.0), ("forward", 2.0))
    ),
    Drill(
        "arm driver killed",
        "kill -9 of sim_bridge on system time: arm and cameras are gone",
        Action.KILL,
        "sim_bridge",
        FAULT,
        NO_POSE,
        POSE_MS,
        After.LATCHED,
        refusal=NO_POSE,
        world=World.SYSTEM,
    ),
    Drill(
        "policy cut off the network",
        "the link of lookup's network namespace goes down",
        Action.CUT,
        "lookup",
        HOLDING,
        NO_POLICY,
        CHUNK_MS,
        After.RECOVERS,
        seconds=2.0,
        world=World.NETWORK,
    ),
    Drill(
        "executor cut off the network",
        "the link of executor's network namespace goes down",
        Action.CUT,
        "executor",
        SILENT,
        "",
        AT_ONCE_MS,
        After.LATCHED,
        seconds=2.0,
        world=World.NETWORK,
    ),
)
