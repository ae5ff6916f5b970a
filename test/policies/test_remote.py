import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_conformance import PolicyConformance
from remote_servers import HORIZON, STEP, ServerProcess
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import split_arm_action
from alt_ros.policies import remote, remote_config
from alt_ros.policies.remote import RemotePolicy
from alt_ros.policies.remote_config import FILE, PARTS, ROTATIONS, Columns, RemoteConfig
from alt_ros.types import Observation

OPENPI = {
    "protocol": "openpi",
    "host": "127.0.0.1",
    "port": 8000,
    "views": {"wrist": "observation/wrist_image", "front": "observation/image"},
    "image_size": [16, 24],
    "image_fit": "stretch",
    "prompt": "go",
    "prompt_key": "prompt",
    "state": [
        {"key": "observation/state", "columns": ["position", "rotation_vector"]},
        {"key": "observation/state", "columns": ["gripper"], "scale": 0.5},
        {"key": "observation/state", "columns": ["gripper"], "scale": -0.5},
    ],
    "actions": [
        {"key": "actions", "columns": ["position", "rotation_vector"]},
        {"key": "actions", "columns": ["gripper"], "scale": -1.0, "offset": 0.08},
    ],
    "motion": "absolute",
    "period": 100_000_000,
    "horizon": 8,
}
GROOT = {
    **OPENPI,
    "protocol": "groot",
    "views": {"wrist": "video.wrist", "front": "video.front"},
    "prompt_key": "annotation.human.task_description",
    "state": [
        {"key": "state.x", "columns": ["x"]},
        {"key": "state.y", "columns": ["y"]},
        {"key": "state.z", "columns": ["z"]},
        {"key": "state.rotation", "columns": ["qw", "qx", "qy", "qz"]},
        {"key": "state.gripper", "columns": ["gripper"], "scale": 10.0},
    ],
    "actions": [
        {"key": "action.x", "columns": ["x"]},
        {"key": "action.y", "columns": ["y"]},
        {"key": "action.z", "columns": ["z"]},
        {"key": "action.rotation", "columns": ["rot6d"]},
        {"key": "action.gripper", "columns": ["gripper"], "scale": 0.1},
    ],
}
CONTENT = {"openpi": OPENPI, "groot": GROOT}
# what the test servers make of the opening, by the mappings above
OPENING = {"openpi": lambda opening: 0.08 - opening, "groot": lambda opening: opening}


@pytest.fixture(scope="module")
def servers():
    with ServerProcess("openpi") as openpi, ServerProcess("groot") as groot:
        yield {"openpi": openpi, "groot": groot}


@pytest.fixture
def policy_of(servers):
    made = []

    def make(protocol, **changes):
        content = {**CONTENT[protocol], "port": servers[protocol].port, **changes}
        made.append(RemotePolicy(RemoteConfig.from_json(content)))
        return made[-1]

    yield make
    for policy in made:
        policy.close()


def observe(frame=0, stamp=0):
    """An observation whose views differ in brightness and whose pose turns with the frame."""
    images = {
        "front": np.full((32, 48, 3), 40 + frame, np.uint8),
        "wrist": np.full((32, 48, 3), 90 + 2 * frame, np.uint8),
        "unasked": np.zeros((4, 4, 3), np.uint8),
    }
    turned = Rotation.from_rotvec([0.3, -0.2 * frame, 2.5]).as_quat()
    pose = np.array([[0.4, 0.1 * frame, 0.3, *turned]])
    return Observation(stamp, images, pose, np.array([0.03 + 0.001 * frame]))


class RemoteConformance(PolicyConformance):
    protocol: str

    @pytest.fixture
    def policy(self, policy_of):
        return policy_of(self.protocol)

    @pytest.fixture
    def observe(self):
        return observe


class TestOpenpiPolicy(RemoteConformance):
    protocol = "openpi"


class TestGrootPolicy(RemoteConformance):
    protocol = "groot"


@pytest.mark.parametrize("protocol", CONTENT)
def test_views_state_and_actions_find_their_places(policy_of, protocol):
    seen = observe(frame=3, stamp=7)
    output = policy_of(protocol).act(seen)
    assert output.ood is None
    poses, openings = split_arm_action(output.chunk.actions, 1)
    x, y, z = seen.poses[0, :3]
    assert poses[:, 0, 0] == pytest.approx(x + STEP * np.arange(HORIZON), abs=1e-6)
    assert poses[:, 0, 1] == pytest.approx([y + 0.043] * HORIZON, abs=1e-6)  # the front view's
    assert poses[:, 0, 2] == pytest.approx([z + 0.096] * HORIZON, abs=1e-6)  # the wrist's
    turned = Rotation.from_quat(poses[:, 0, 3:]) * Rotation.from_quat(seen.poses[0, 3:]).inv()
    assert turned.magnitude() == pytest.approx([0.0] * HORIZON, abs=1e-6)
    assert openings[:, 0] == pytest.approx([OPENING[protocol](0.033)] * HORIZON, abs=1e-6)


def test_steps_add_up_from_the_measured_pose_about_the_bases_axes(policy_of):
    seen = observe(frame=2)
    policy = policy_of("openpi", motion="delta", prompt="steps")
    poses, _ = split_arm_action(policy.act(seen).chunk.actions, 1)
    for i, pose in enumerate(poses[:, 0], start=1):
        assert pose[:3] == pytest.approx(seen.poses[0, :3] + i * np.array([STEP, 0.0, -STEP]))
        expected = Rotation.from_rotvec([0, 0, 0.1 * i]) * Rotation.from_quat(seen.poses[0, 3:])
        assert (Rotation.from_quat(pose[3:]) * expected.inv()).magnitude() < 1e-6


def test_actions_can_be_in_another_order_and_unit(policy_of):
    actions = [
        {"key": "actions", "columns": ["y", "z", "x"], "scale": 0.5, "offset": 1.0},
        {"key": "actions", "columns": ["rotation_vector"]},
        {"key": "actions", "columns": ["gripper"], "scale": 2.0},
    ]
    chunk = policy_of("openpi", actions=actions).act(observe()).chunk
    x, y, z = 0.4, 0.04, 0.39  # what the server says
    assert chunk.actions[0, :3] == pytest.approx([1 + z / 2, 1 + x / 2, 1 + y / 2])
    assert chunk.actions[0, 9] == pytest.approx(0.06)


def test_two_arms_are_told_and_read_by_their_numbers(policy_of):
    entries = [
        {"key": "observation/state", "columns": ["position"], "arm": 1},
        {"key": "observation/state", "columns": ["rotation_vector"], "arm": 0},
        {"key": "observation/state", "columns": ["gripper"], "arm": 1},
        {"key": "observation/state", "columns": ["gripper"], "arm": 0, "scale": -1.0},
    ]
    policy = policy_of("openpi", state=entries)
    for take in (policy.act, policy.observe):
        with pytest.raises(DataError, match="the poses of 2 arms, the observation holds 1"):
            take(observe())
    one = observe(frame=1)
    poses = np.vstack([one.poses, [[5.0, 6.0, 7.0, 0.0, 0.0, 0.0, 1.0]]])
    both = replace(one, poses=poses, grippers=np.array([0.02, 0.05]))
    found, openings = split_arm_action(policy.act(both).chunk.actions, 1)
    assert found[0, 0, 0] == pytest.approx(5.0)
    assert found[0, 0, 3:] == pytest.approx(one.poses[0, 3:], abs=1e-6)
    assert openings[0, 0] == pytest.approx(0.08 - 0.07)


def test_actions_of_two_arms_fill_a_layout_of_two_without_the_columns_that_are_not_read(
    policy_of, monkeypatch
):
    both = [
        {"key": key, "columns": ["position", "unused", "quaternion_xyzw", "gripper"], "arm": arm}
        for arm, key in enumerate(("left", "right"))
    ]
    policy = policy_of("openpi", actions=both)
    rows = np.arange(1.0, 10.0) * np.ones((2, 1))
    answer = {"left": rows, "right": rows + 10.0}
    monkeypatch.setattr(policy._client, "infer", lambda _: answer)
    chunk = policy.act(observe()).chunk
    assert chunk.layout.arms == policy.layout.arms == 2
    assert chunk.actions.shape == (2, 20)
    assert chunk.actions[0, [0, 1, 2, 9, 10, 11, 12, 19]].tolist() == [1, 2, 3, 9, 11, 12, 13, 19]
    poses, _ = split_arm_action(chunk.actions, 2)
    right = np.array([15, 16, 17, 18]) / np.linalg.norm([15, 16, 17, 18])
    assert poses[1, 1, 3:] == pytest.approx(right)


@given(
    turn=st.tuples(*[st.floats(-1.0, 1.0)] * 3),
    kind=st.sampled_from(ROTATIONS),
)
def test_a_rotation_is_the_same_on_the_way_there_and_back(turn, kind):
    rotation = Rotation.from_rotvec(turn)
    pose = np.array([0.0, 0.0, 0.0, *rotation.as_quat()])
    values = remote._FROM_POSE[kind](pose, 0.0)
    assert values.shape == (len(PARTS[kind]),)
    back = remote._TO_ROTATION[kind](values[None])
    assert (back * rotation.inv()).magnitude() < 1e-6


def test_euler_angles_turn_about_the_bases_axes_x_first():
    about_x_then_z = Rotation.from_rotvec([0, 0, np.pi / 2]) * Rotation.from_rotvec([0.5, 0, 0])
    pose = np.array([0.0, 0.0, 0.0, *about_x_then_z.as_quat()])
    assert remote._FROM_POSE["euler_xyz"](pose, 0.0) == pytest.approx([0.5, 0.0, np.pi / 2])


def test_an_image_keeps_its_proportions_in_the_middle_of_black_or_fills_the_size(policy_of):
    image = np.full((20, 40, 3), 200, np.uint8)
    padded = remote._padded(image, 32, 32)
    assert padded.shape == (32, 32, 3)
    assert (padded[8:24] == 200).all()
    assert not padded[:8].any()
    assert not padded[24:].any()
    assert remote._padded(np.swapaxes(image, 0, 1), 32, 32)[:, 7:9, 0].tolist() == [[0, 200]] * 32
    assert remote._padded(image, 20, 40) is not image
    whole = Observation(0, {"front": image, "wrist": image}, *_still())
    brightness = {}
    for fit in ("pad", "stretch"):
        policy = policy_of("openpi", image_size=[32, 32], image_fit=fit)
        brightness[fit] = policy.act(whole).chunk.actions[0, 1]
    assert brightness["stretch"] == pytest.approx(0.2)
    assert brightness["pad"] == pytest.approx(0.1)


@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_a_padded_image_is_of_the_size_and_touches_two_opposite_sides(height, width):
    padded = remote._padded(np.full((height, width, 3), 9, np.uint8), 24, 24)
    assert padded.shape == (24, 24, 3)
    shown = padded[..., 0] == 9
    assert shown.any(axis=1).all() or shown.any(axis=0).all()


def _still():
    return np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]), np.array([0.02])


def test_an_image_is_not_changed_where_it_has_the_size_already(policy_of):
    seen = observe()
    policy_of("openpi", image_size=[32, 48], image_fit="pad").act(seen)
    assert (seen.images["front"] == 40).all()


@pytest.mark.parametrize(
    ("protocol", "prompt", "words"),
    [
        ("openpi", "nan", "finite actions, got nan in row 3, column 6 of 'actions'"),
        ("openpi", "wide", r"1 to 8 rows of 7, got shape \(5, 21\)"),
        ("openpi", "long", r"1 to 8 rows of 7, got shape \(250, 7\): correct horizon"),
        ("openpi", "flat", r"1 to 8 rows of 7, got shape \(35,\)"),
        ("openpi", "list", "array 'actions', got list"),
        ("openpi", "lacking", r"array 'actions', got NoneType, and holds \['state'\]"),
        ("openpi", "raise", "failed with 'ValueError: state has 8 values"),
        ("groot", "nan", "got nan in row 3, column 0 of 'action.gripper'"),
        ("groot", "wide", r"'action.gripper' as 1 to 8 rows of 1, got shape \(5, 3\)"),
        ("groot", "lacking", "array 'action.x', got float"),
        ("groot", "uneven", "as many actions under each key, got {'action.x': 4, 'action.y': 5"),
        ("groot", "zero", "rotations as rot6d: "),
        ("groot", "object /tmp/never", r"got dtype '\|O'"),
        ("groot", "raise", "failed with 'state has 8 values"),
    ],
)
def test_a_wrong_answer_is_one_line_with_the_servers_name(policy_of, protocol, prompt, words):
    policy = policy_of(protocol, prompt=prompt)
    with pytest.raises(DataError, match=words) as caught:
        policy.act(observe())
    line = str(caught.value)
    assert line.startswith(policy._client.name)
    assert line.isprintable()


def test_a_quaternion_of_zeros_is_refused(policy_of, monkeypatch):
    actions = [{"key": "actions", "columns": ["position", "quaternion_xyzw", "gripper"]}]
    policy = policy_of("openpi", actions=actions)
    monkeypatch.setattr(policy._client, "infer", lambda _: {"actions": np.zeros((2, 8))})
    with pytest.raises(DataError, match="rotations as quaternion_xyzw: "):
        policy.act(observe())


@pytest.mark.parametrize("protocol", CONTENT)
def test_a_killed_server_is_one_error_a_request_and_is_found_again(protocol):
    with ServerProcess(protocol) as server:
        content = {**CONTENT[protocol], "port": server.port, "connect_timeout": 0.5}
        with closing(RemotePolicy(RemoteConfig.from_json(content))) as policy:
            policy.connect()
            before = policy.act(observe()).chunk
            server.kill()
            for _ in range(2):
                with pytest.raises(DataError, match=str(server.port)):
                    policy.act(observe())
            with pytest.raises(DataError, match="start it"):
                policy.connect()
            server.start()
            assert np.array_equal(policy.act(observe()).chunk.actions, before.actions)


@pytest.mark.parametrize("protocol", CONTENT)
def test_a_late_answer_is_an_error_in_time(policy_of, protocol):
    policy = policy_of(protocol, prompt="wait 0.5", request_timeout=0.2)
    with pytest.raises(DataError, match="within 0.2 s"):
        policy.act(observe())


def test_the_servers_key_comes_from_the_environment(monkeypatch):
    with ServerProcess("openpi", token="secret") as server:
        content = {**OPENPI, "port": server.port, "token_variable": "ALT_TEST_KEY"}
        config = RemoteConfig.from_json(content)
        with pytest.raises(ConfigurationError, match="'ALT_TEST_KEY'.*export it"):
            RemotePolicy(config)
        monkeypatch.setenv("ALT_TEST_KEY", "secret")
        with closing(RemotePolicy(config)) as policy:
            assert policy.act(observe()).chunk is not None


@pytest.mark.parametrize("protocol", CONTENT)
def test_a_folders_file_describes_the_policy(tmp_path, protocol):
    (tmp_path / FILE).write_text(json.dumps(CONTENT[protocol]), encoding="utf-8")
    policy = RemotePolicy.load(tmp_path)
    assert policy.views == ("wrist", "front")
    assert (policy.period, policy.horizon) == (100_000_000, 8)
    assert policy.config.state[0].arm == 0
    assert policy.config.image_size == (16, 24)


def test_the_example_of_the_documentation_is_a_configuration():
    text = remote_config.__doc__
    example = json.loads(text[text.index("{") : text.rindex("}\n\n") + 1])
    config = RemoteConfig.from_json(example)
    assert [name for entry in config.state for name in entry.names][-2:] == ["gripper"] * 2
    opened, closed = (config.actions[2].scale * v + config.actions[2].offset for v in (-1, 1))
    assert (opened, closed) == (0.08, 0.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "pickle"}, "protocol must be one of openpi, groot, got 'pickle'"),
        ({"motion": "velocity"}, "motion must be one of absolute, delta"),
        ({"image_fit": "crop"}, "image_fit must be one of pad, stretch"),
        ({"host": "a b"}, "host must be a name or an address, got 'a b'"),
        ({"host": ""}, "host must be"),
        ({"port": 0}, "port must be 1 to 65535, got 0"),
        ({"port": "8000"}, "port must be a whole number, got '8000'"),
        ({"port": True}, "port must be a whole number, got True"),
        ({"period": 0}, "period must be positive, got 0"),
        ({"horizon": -1}, "horizon must be positive"),
        ({"request_timeout": float("nan")}, "request_timeout must be positive, got nan"),
        ({"connect_timeout": float("inf")}, "connect_timeout must be positive, got inf"),
        ({"image_size": [224]}, "image_size must be a height and a width"),
        ({"image_size": [224, 0]}, "image_size must be"),
        ({"image_size": [224.0, 224.0]}, "image_size must be two whole numbers"),
        ({"views": {}}, "views and prompt_key must be named"),
        ({"views": {"wrist": ""}}, "views and prompt_key must be named"),
        ({"views": {"wrist": 3}}, "views must be a map from text to text"),
        ({"views": {"a": "prompt"}}, r"one thing, got \['prompt'\] more than once"),
        ({"views": {"a": "k", "b": "k"}}, r"one thing, got \['k'\] more than once"),
        ({"state": [{"key": "s", "columns": ["unused"]}]}, "'unused' is for actions alone"),
        (
            {"state": [{"key": "s", "columns": ["joints"]}]},
            r"some of position, .*got \['joints'\]",
        ),
        ({"state": [{"key": "s"}]}, r"state must be a map of .*missing \['columns'\]"),
        ({"state": [{"key": "s", "columns": ["x"], "arm": -1}]}, "arm of at least 0"),
        ({"state": [{"key": "s", "columns": ["x"], "scale": 0}]}, "scale other than 0"),
        (
            {"state": [{"key": "s", "columns": ["rot6d"], "scale": 2}]},
            "has no unit: leave out scale 2",
        ),
        ({"state": {}}, "state must be a list of maps"),
        ({"actions": []}, r"actions of arm 0 must hold position, .*got \[\]"),
        (
            {"actions": [{"key": "a", "columns": ["position", "euler_xyz", "rot6d", "gripper"]}]},
            "one of quaternion_xyzw",
        ),
        (
            {"actions": [{"key": "a", "columns": ["position", "x", "euler_xyz", "gripper"]}]},
            "every column once",
        ),
        (
            {"actions": [{"key": "a", "columns": ["position", "rot6d", "gripper"], "arm": 1}]},
            "actions of arm 0 must hold",
        ),
        ({"speed": 1}, r"unknown are \['speed'\]"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(changes, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        RemoteConfig.from_json({**OPENPI, **changes})
    assert "\n" not in str(caught.value)


def test_a_field_that_is_missing_is_named():
    content = {name: value for name, value in OPENPI.items() if name != "motion"}
    with pytest.raises(ConfigurationError, match=r"missing \['motion'\]"):
        RemoteConfig.from_json(content)
    with pytest.raises(ConfigurationError, match="must be a map of protocol"):
        RemoteConfig.from_json([])


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=f"{FILE}' must be a JSON file"):
        RemotePolicy.load(tmp_path)
    (tmp_path / FILE).write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"{FILE}' must be a JSON file"):
        RemotePolicy.load(tmp_path)
    (tmp_path / FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"{FILE}': remote policy must be a map"):
        RemotePolicy.load(tmp_path)


def test_columns_write_whole_parts_out():
    columns = Columns("actions", ("position", "qw", "unused", "gripper"))
    assert columns.names == ("x", "y", "z", "qw", "unused", "gripper")
