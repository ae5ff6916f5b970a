"""Demonstrations in rosbag2 bags, MCAP or SQLite, read without ROS.

A bag goes through the same synchroniser and the same image decoding as the live graph, so what
training sees is what deployment will see. An MCAP file that was cut off (a killed recorder, a
full disk) is read up to the last whole record.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.bags.files import bag_files, find_bags, is_cut_off
from alt_ros.bags.reading import read_messages
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.sequence import DemonstrationSequence
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action, interpolate_pose
from alt_ros.messages import image_of, opening_of, pose_of, stamp_of, transforms_of
from alt_ros.synchronization import Match, SynchronizationConfig, Synchronizer
from alt_ros.transforms import TransformChain
from alt_ros.types import ActionLayout, Observation, check_poses

log = logging.getLogger(__name__)
Array = NDArray[np.float64]

POSE_SOURCES = ("topic", "tf")


@dataclass(frozen=True)
class BagTopics:
    """Where a bag keeps what; the defaults are the names in config/.

    Attributes:
        images: View name to topic of Image or CompressedImage; the first is the primary view.
        pose: PoseStamped of the end effector.
        gripper: JointState with the opening in metres.
        gripper_joint: The joint to read; empty takes the only one.
        pose_source: ``topic``, or ``tf``: the pose of ``eef_frame`` in ``base_frame``.
        tf: TFMessage of the links that move.
        tf_static: TFMessage of those that do not.
        base_frame: With ``tf``: what the poses are given in.
        eef_frame: With ``tf``: whose poses they are.
        target_pose: PoseStamped commands; absent from the bag: the measured pose is the action.
        target_gripper: Float64 commands.
    """

    images: Mapping[str, str] = field(
        default_factory=lambda: {
            "wrist": "/wrist/image_raw",
            "third_person": "/third_person/image_raw",
        }
    )
    pose: str = "/eef_pose"
    gripper: str = "/gripper_state"
    gripper_joint: str = ""
    pose_source: str = "topic"
    tf: str = "/tf"
    tf_static: str = "/tf_static"
    base_frame: str = ""
    eef_frame: str = ""
    target_pose: str = "/target_pose"
    target_gripper: str = "/target_gripper"

    def __post_init__(self) -> None:
        if self.pose_source not in POSE_SOURCES:
            raise ConfigurationError(
                f"pose_source must be one of {', '.join(POSE_SOURCES)}, got '{self.pose_source}'"
            )

    @property
    def of_pose(self) -> tuple[str, ...]:
        """The topics that the pose comes from."""
        return (self.pose,) if self.pose_source == "topic" else (self.tf, self.tf_static)


def _read_success(path: Path) -> bool | None:
    """Return whether the recorder noted the episode as a success; None where it noted nothing."""
    from mcap.exceptions import McapError
    from mcap.reader import make_reader
    from ruamel.yaml import YAML, YAMLError

    text = ""
    try:
        if (path / "metadata.yaml").is_file():
            text = (path / "metadata.yaml").read_text(encoding="utf-8")
        else:
            file = path if path.is_file() else bag_files(path)[0]
            if file.suffix == ".mcap" and not is_cut_off(file):
                with file.open("rb") as stream:
                    for record in make_reader(stream).iter_metadata():
                        text = record.metadata.get("serialized_metadata", text)
        metadata = YAML(typ="safe").load(text) or {}
        metadata = metadata.get("rosbag2_bagfile_information", metadata)
        noted = (metadata.get("custom_data") or {}).get("success")
    except (McapError, YAMLError, OSError, ValueError, AttributeError) as error:
        raise DataError(f"bag '{path}', metadata cannot be read: {error}") from error
    if noted not in (None, "true", "false"):
        raise DataError(
            f"bag '{path}', metadata: success must be 'true' or 'false', got '{noted}'"
        )
    return None if noted is None else noted == "true"


class BagReplay:
    """A bag through the live node's synchroniser.

    Attributes:
        synchronizer: Its counters tell, after the replay, what was not used.
        size_change: The first image that was not of its view's size, in words; empty if none.
    """

    def __init__(self, path: Path, topics: BagTopics, config: SynchronizationConfig) -> None:
        self.synchronizer: Synchronizer[Any] = Synchronizer(config)
        self.size_change = ""
        self._path = path
        self._topics = topics
        self._chain: TransformChain | None = None
        if topics.pose_source == "tf":
            self._chain = TransformChain(
                topics.base_frame, topics.eef_frame, config.max_bracket, config.clock_jump
            )

    @property
    def pose_problem(self) -> str:
        """Why transforms give no pose; empty where they do, or are not asked for."""
        return "" if self._chain is None else self._chain.problem

    def matches(self) -> Iterator[Match[Any]]:
        """Yield what the live synchroniser would have matched, frames still as messages."""
        topics, add = self._topics, self.synchronizer
        views = {topic: view for view, topic in topics.images.items()}
        for topic, _, message in read_messages(
            self._path, [*views, *topics.of_pose, topics.gripper]
        ):
            if topic in views:
                yield from add.add_frame(views[topic], stamp_of(message), message)
            elif topic == topics.gripper:
                opening = opening_of(message, topics.gripper_joint)
                yield from add.add_gripper(stamp_of(message), opening)
            elif self._chain is None:
                yield from add.add_pose(stamp_of(message), pose_of(message.pose))
            else:
                for parent, child, stamp, pose in transforms_of(message):
                    is_static = topic == topics.tf_static
                    for at, sample in self._chain.add(
                        parent, child, stamp, pose, is_static=is_static
                    ):
                        yield from add.add_pose(at, sample)
        if add.drops:
            log.info("bag '%s': not used: %s", self._path, dict(add.drops))

    def observations(self) -> Iterator[Observation]:
        """Yield the observations that the live camera_sync published, bit for bit.

        Frames that do not decode or change their size are left out with a warning, as the live
        node does.
        """
        for match in self.matches():
            try:
                yield self.synchronizer.observation(match, image_of)
            except DataError as error:
                log.warning("bag '%s', stamp %d: %s", self._path, match.stamp, error)
                if self.synchronizer.drops["size_changed"]:
                    self.size_change = self.size_change or str(error)


def replay_observations(
    path: Path, topics: BagTopics, config: SynchronizationConfig
) -> Iterator[Observation]:
    """Yield the observations that the live camera_sync published, bit for bit.

    Frames that do not decode or change their size are left out with a warning.
    """
    return BagReplay(path, topics, config).observations()


def _read_commands(path: Path, topics: BagTopics) -> tuple[list[int], Array, list[int], Array]:
    pose_stamps, poses, gripper_stamps, grippers = [], [], [], []
    for topic, time, message in read_messages(path, [topics.target_pose, topics.target_gripper]):
        if topic == topics.target_pose:
            pose_stamps.append(stamp_of(message))
            poses.append(pose_of(message.pose))
        else:  # Float64 carries no stamp of its own
            gripper_stamps.append(time)
            grippers.append(float(message.data))
    if bool(pose_stamps) != bool(gripper_stamps):
        present, absent = topics.target_pose, topics.target_gripper
        if gripper_stamps:
            present, absent = absent, present
        raise DataError(
            f"bag '{path}' holds commands on '{present}' and none on '{absent}': "
            f"check the topic names"
        )
    pose_array = np.array(poses, np.float64).reshape(-1, 7)
    check_poses(pose_array, f"bag '{path}', '{topics.target_pose}'")
    return pose_stamps, pose_array, gripper_stamps, np.array(grippers)


def read_bag(
    path: Path, topics: BagTopics | None = None, config: SynchronizationConfig | None = None
) -> Demonstration:
    """Return the episode that a bag holds.

    The action of a frame is the command at its stamp: the target pose interpolated between the
    commands around it, the last target opening before it. Frames before the first command are
    left out; a bag without commands gives the measured pose and opening instead. ``success`` is
    what the recorder noted in the bag's custom data.

    Args:
        path: Bag folder or file.
        topics: Topic names; None takes the defaults.
        config: Matching; None takes the defaults with the views of ``topics``.

    Raises:
        DataError: The bag is unreadable, no frame of it could be matched, or its commands are
            damaged.
    """
    topics = BagTopics() if topics is None else topics
    config = SynchronizationConfig(tuple(topics.images)) if config is None else config
    replay = BagReplay(path, topics, config)
    observations = list(replay.observations())
    if replay.size_change:
        raise DataError(
            f"bag '{path}', image size changes within the episode: {replay.size_change}; record "
            f"it again with one size"
        )
    pose_stamps, poses, gripper_stamps, grippers = _read_commands(path, topics)
    if pose_stamps and gripper_stamps:
        start = max(pose_stamps[0], gripper_stamps[0])
        observations = [o for o in observations if o.stamp >= start]
    if not observations:
        raise DataError(
            f"bag '{path}' holds no frame with all of {sorted(topics.images.values())}, "
            f"{', '.join(map(repr, topics.of_pose))} and '{topics.gripper}': "
            + (replay.pose_problem or "check the topic names and stamps")
        )
    if pose_stamps and gripper_stamps:
        actions = np.array(
            [
                arm_action(
                    _pose_at(o.stamp, pose_stamps, poses)[None],
                    grippers[np.searchsorted(gripper_stamps, o.stamp, "right") - 1][None],
                )
                for o in observations
            ]
        )
    else:
        actions = np.array([arm_action(o.poses, o.grippers) for o in observations])
    return Demonstration(
        name=path.stem if path.is_file() else path.name,
        stamps=np.array([o.stamp for o in observations], np.int64),
        images={view: np.stack([o.images[view] for o in observations]) for view in topics.images},
        poses=np.array([o.poses for o in observations]),
        grippers=np.array([o.grippers for o in observations]),
        state=np.zeros((len(observations), 0)),
        actions=actions,
        layout=ActionLayout(arms=config.arms),
        success=_read_success(path),
        source=str(path),
    )


def _pose_at(stamp: int, stamps: Sequence[int], poses: Array) -> Array:
    after = int(np.searchsorted(stamps, stamp, "left"))
    if after == len(stamps):
        return poses[-1]
    if stamps[after] == stamp or after == 0:
        return poses[after]
    before = after - 1
    fraction = (stamp - stamps[before]) / (stamps[after] - stamps[before])
    return interpolate_pose(poses[before], poses[after], fraction)


class BagDemonstrations(DemonstrationSequence):
    """The bags of a folder, each read when it is asked for."""

    def __init__(
        self,
        paths: Sequence[Path],
        topics: BagTopics | None = None,
        config: SynchronizationConfig | None = None,
    ) -> None:
        self.paths = list(paths)
        self._topics = topics
        self._config = config

    def __len__(self) -> int:
        return len(self.paths)

    def _load(self, index: int) -> Demonstration:
        return read_bag(self.paths[index], self._topics, self._config)


def open_bags(
    path: Path | str,
    topics: BagTopics | None = None,
    config: SynchronizationConfig | None = None,
) -> BagDemonstrations:
    """Open a bag, or every bag of a folder, one episode each.

    Raises:
        DataError: There is no bag.
    """
    paths = find_bags(Path(path))
    if not paths:
        raise DataError(
            f"'{path}' holds no rosbag2 bag (a folder with metadata.yaml, .mcap, .db3)"
        )
    return BagDemonstrations(paths, topics, config)
