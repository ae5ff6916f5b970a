"""Which topics of a bag are the sensors and the commands: by name, or by type where that is sure.

A sensor whose topic is not in the bag is looked for among the topics of its type: an image whose
name holds the view's, the one image that is left for the one view that is, the one topic of a
measured pose, the one of a gripper. What is taken is told; where several could be meant, none is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from alt_ros.demonstrations.rosbag import BagTopics

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
POSE, JOINTS = "geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/JointState"
TRANSFORMS, NUMBER = "tf2_msgs/msg/TFMessage", "std_msgs/msg/Float64"
PICTURES = (IMAGE, COMPRESSED)
COMMANDED = ("target", "command", "cmd", "goal", "desired", "setpoint", "reference")
"""A pose with such a word in its topic is no measured one."""
MOST_NAMED = 8
"""So many candidates are named."""


@dataclass(frozen=True)
class FoundTopics:
    """The topics of a bag that are read.

    Attributes:
        topics: As given, with what was found by type.
        roles: Topic to its type and what it is: ``image``, ``pose``, ``gripper``, ``target_pose``
            or ``target_gripper``.
        taken: What was found by type, a sentence each.
        problems: What is not there or of a wrong type, a sentence each.
    """

    topics: BagTopics
    roles: dict[str, tuple[str, str]]
    taken: list[str]
    problems: list[str]


def find_topics(topics: BagTopics, types: Mapping[str, str]) -> FoundTopics:
    """Return which topics of a bag are read.

    Args:
        topics: The names to look for.
        types: Topic to type, of the bag.
    """
    taken: list[str] = []
    problems = _of_wrong_type(topics, types)
    images = dict(topics.images)
    missing = [view for view, topic in images.items() if types.get(topic) not in PICTURES]
    used = set(images.values()) - {images[view] for view in missing}
    free = _pictures(types, used)
    by_name = {view: _named_like(free, view) for view in missing}
    for view, alike in by_name.items():
        others = {t for other, found in by_name.items() if other != view for t in found}
        if len(alike) == 1 and alike[0] not in others:
            images[view] = alike[0]
    free = [topic for topic in free if topic not in images.values()]
    left = [view for view in missing if images[view] == topics.images[view]]
    if len(left) == len(free) == 1:
        images[left[0]], left, free = free[0], [], []
    for view in missing:
        if view not in left:
            taken.append(_taken(f"camera '{view}'", topics.images[view], images[view]))
        else:
            choice = f"--image {' '.join(f'{v} TOPIC' for v in images)}"
            problems.append(_missing(types, topics.images[view], by_name[view] or free, choice))

    found = replace(topics, images=images)
    if topics.pose_source == "tf":
        problems += [_missing(types, t, [], "") for t in topics.of_pose if t not in types]
    elif types.get(topics.pose) != POSE:
        poses = [topic for topic in _of(types, POSE) if not _commanded(topic, topics)]
        if len(poses) == 1:
            taken.append(_taken("the arm's pose", topics.pose, poses[0]))
            found = replace(found, pose=poses[0])
        else:
            problem = _missing(types, topics.pose, poses, "--pose TOPIC")
            if problem and not poses and topics.tf in types:
                problem += f"; '{topics.tf}' is there: name its frames in --config, pose_source tf"
            problems.append(problem)
    if types.get(topics.gripper) != JOINTS:
        joints = _of(types, JOINTS)
        alike = joints if len(joints) == 1 else _named_like(joints, "gripper")
        if len(alike) == 1:
            taken.append(_taken("the gripper's state", topics.gripper, alike[0]))
            found = replace(found, gripper=alike[0])
        else:
            problems.append(_missing(types, topics.gripper, alike or joints, "--gripper TOPIC"))
    return FoundTopics(found, _roles(found, types), taken, [p for p in problems if p])


def _wanted(topics: BagTopics) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return topic to the types that it may have, and what it is."""
    pose = (POSE,) if topics.pose_source == "topic" else (TRANSFORMS,)
    return {
        topics.gripper: ((JOINTS,), "gripper"),
        topics.target_pose: ((POSE,), "target_pose"),
        topics.target_gripper: ((NUMBER,), "target_gripper"),
        **dict.fromkeys(topics.images.values(), (PICTURES, "image")),
        **dict.fromkeys(topics.of_pose, (pose, "pose")),
    }


def _roles(topics: BagTopics, types: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        topic: (types[topic], what)
        for topic, (kinds, what) in _wanted(topics).items()
        if types.get(topic) in kinds
    }


def _of_wrong_type(topics: BagTopics, types: Mapping[str, str]) -> list[str]:
    return [
        f"topic '{topic}' must be of type {' or '.join(kinds)}, it is of {types[topic]}: "
        "it is left out"
        for topic, (kinds, _) in _wanted(topics).items()
        if topic in types and types[topic] not in kinds
    ]


def _of(types: Mapping[str, str], *kinds: str) -> list[str]:
    return sorted(topic for topic, kind in types.items() if kind in kinds)


def _pictures(types: Mapping[str, str], used: Iterable[str]) -> list[str]:
    """Return image topics that nobody uses; of a camera's two, not the compressed one."""
    used = set(used)
    known = set(_of(types, *PICTURES))
    return sorted(
        topic
        for topic in known - used
        if not {topic.removesuffix("/compressed"), f"{topic}/compressed"} & (used - {topic})
        and (
            topic == topic.removesuffix("/compressed") or topic[: -len("/compressed")] not in known
        )
    )


def _named_like(topics: Sequence[str], name: str) -> list[str]:
    return [topic for topic in topics if _plain(name) in _plain(topic)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _commanded(topic: str, topics: BagTopics) -> bool:
    return topic == topics.target_pose or any(word in topic.lower() for word in COMMANDED)


def _taken(what: str, name: str, topic: str) -> str:
    return f"{what} is taken from '{topic}', found by its type: there is no '{name}' of it"


def _missing(types: Mapping[str, str], topic: str, candidates: Sequence[str], option: str) -> str:
    if topic in types and not candidates:
        return ""  # told as one of a wrong type
    what = "nothing of its type" if topic in types else "nothing"
    text = f"{what} was recorded of '{topic}', so nothing can be paired"
    if not candidates:
        return text
    named = ", ".join(f"'{candidate}'" for candidate in candidates[:MOST_NAMED])
    more = ", ..." if len(candidates) > MOST_NAMED else ""
    return f"{text}; it may be {named}{more}: say which with {option}"
