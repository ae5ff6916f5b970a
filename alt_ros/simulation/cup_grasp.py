"""The simulated cup grasp: one arm, one cup, two cameras, stepped by hand."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError, DependencyError
from alt_ros.geometry import pose_distance
from alt_ros.simulation.disturbances import (
    Disturbance,
    Photograph,
    distractor_positions,
    disturbed_images,
    knocked_camera,
)
from alt_ros.simulation.scene import (
    ARM_JOINTS,
    DISTRACTOR_HEIGHTS,
    DISTRACTORS,
    FINGER_JOINTS,
    HIDDEN,
    HOME_JOINTS,
    HOME_POSE,
    LAMP,
    LOOKS,
    MAX_OPENING,
    MUG,
    SHOWN,
    TUMBLER,
    VIEWS,
    CupLook,
    CupPlacement,
    scene_mjcf,
)
from alt_ros.types import check_poses

_GL_REMEDY = (
    "apt install libegl1 libgl1-mesa-dri for MUJOCO_GL=egl, or set MUJOCO_GL=osmesa and "
    "apt install libosmesa6"
)
os.environ.setdefault("MUJOCO_GL", "egl")  # mujoco reads it once, at import
try:
    mujoco: Any = importlib.import_module("mujoco")  # compiled: it has no types to check
except ModuleNotFoundError as error:
    raise DependencyError(
        f"the simulation needs mujoco 3.3 or later ({error}): pip install mujoco"
    ) from error
except Exception as error:  # a GL library that is not there raises whatever it likes
    raise DependencyError(
        f"mujoco cannot load GL with MUJOCO_GL={os.environ['MUJOCO_GL']} ({error}): {_GL_REMEDY}"
    ) from error

__all__ = [
    "HOME_POSE",
    "MAX_OPENING",
    "VIEWS",
    "CupGraspSimulation",
    "CupPlacement",
    "Disturbance",
]

Array = NDArray[np.float64]

LIFT_HEIGHT = 0.05
"""Height gained by the cup that counts as lifted, metres."""
GRASP_REACH = 0.025
"""Largest distance of the cup's axis from the grasp point in a grasp that counts, metres."""
MAX_JOINT_SPEED = 2.5
"""Limit of the joint targets, rad/s: a target that jumps is approached at this speed."""
MAX_GRIPPER_SPEED = 0.20
"""Limit of the opening target, m/s."""

_SUBSTEPS = 5
_DAMPING = 0.03  # of the least squares; bounds joint motion at the edge of the workspace
_IK_STRIDE = 0.03  # metres and radians of one iteration
_IK_ITERATIONS = 12
_IK_TOLERANCE = 2e-5  # metres and radians
_START_ITERATIONS = 100
_START_TOLERANCE = 1e-3  # metres and radians


class CupGraspSimulation:
    """A cup on a table and an arm that follows tool poses; ROS-free, deterministic.

    Images come from one GL context, made by the thread that renders first; render and close from
    that thread.
    """

    CONTROL_PERIOD = 10_000_000
    """Simulated time of one ``step``, ns."""
    VIEWS = VIEWS

    def __init__(
        self,
        image_size: tuple[int, int] = (128, 128),
        render: bool = True,
        antialiasing: bool = False,
    ) -> None:
        """Build the scene, arm at home, cup in the middle.

        Args:
            image_size: (height, width) of the images, pixels.
            render: False refuses ``render`` and makes no GL context.
            antialiasing: Smooth edges, for pictures that people look at; 2.5 times slower.

        Raises:
            ConfigurationError: The image size is out of bounds.
        """
        if len(image_size) != 2 or not all(16 <= int(side) <= 2048 for side in image_size):
            raise ConfigurationError(
                f"simulation: image_size must be (height, width) of 16 to 2048 pixels, "
                f"got {image_size}"
            )
        self._image_size = (int(image_size[0]), int(image_size[1]))
        self._rendering = render
        self._renderer: Any = None
        self._render_thread = 0
        self._photograph: Photograph | None = None
        self._model = mujoco.MjModel.from_xml_string(scene_mjcf(self._image_size, antialiasing))
        self._data = mujoco.MjData(self._model)
        self._plan = mujoco.MjData(self._model)  # inverse kinematics think here
        self._read_addresses()
        self._home_joints = self.inverse_kinematics(HOME_JOINTS, HOME_POSE, _START_ITERATIONS)
        self._time = 0
        self.reset(CupPlacement(float(HOME_POSE[0]), float(HOME_POSE[1]), 0.0))

    def _read_addresses(self) -> None:
        model = self._model
        self._arm_q = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._arm_v = np.array([model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self._finger_q = np.array([model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        self._cup_q = int(model.joint("cup").qposadr[0])
        self._cup_body = model.body("cup").id
        self._grasp_site = model.site("grasp").id
        self._pads = tuple(
            {i for i in range(model.ngeom) if model.geom_bodyid[i] == model.body(name).id}
            for name in FINGER_JOINTS
        )
        self._lamp = model.light(LAMP).id
        self._lights = (
            model.light_diffuse.copy(),
            model.light_specular.copy(),
            model.vis.headlight.ambient.copy(),
            model.vis.headlight.diffuse.copy(),
        )
        self._cameras = model.cam_pos.copy(), model.cam_quat.copy()
        self._arm_limits = np.array([model.joint(name).range for name in ARM_JOINTS])
        # geometry -> (group, contype, conaffinity) while its look is worn
        self._looks: dict[str, dict[int, tuple[int, int, int]]] = {
            look.name: {
                i: (
                    int(model.geom_group[i]),
                    int(model.geom_contype[i]),
                    int(model.geom_conaffinity[i]),
                )
                for i in range(model.ngeom)
                if model.geom(i).name.startswith(f"{look.name}_")
            }
            for look in LOOKS
        }

    def reset(
        self,
        placement: CupPlacement,
        disturbance: Disturbance | None = None,
        seed: int = 0,
        *,
        start: ArrayLike | None = None,
    ) -> None:
        """Put the arm home, gripper open, and the cup where asked; simulated time goes on.

        The arm is at rest, and so is what it follows.

        Args:
            placement: Where the cup stands.
            disturbance: What is wrong from the start.
            seed: Of the distractors' layout, a covered camera's noise and a moved camera's
                direction, 0 or more.
            start: (7,) pose of the grasp point from which the arm starts instead, metres and
                quaternion xyzw.

        Raises:
            ConfigurationError: The seed is negative, or the arm cannot reach the start.
            DataError: The start is of the wrong shape, not finite or no unit quaternion.
        """
        if seed < 0:
            raise ConfigurationError(f"simulation: seed must be 0 or more, got {seed}")
        joints = self._home_joints if start is None else self._start_joints(start)
        data = self._data
        mujoco.mj_resetData(self._model, data)
        half = placement.yaw / 2
        data.qpos[self._arm_q] = joints
        data.qpos[self._finger_q] = MAX_OPENING / 2
        data.qpos[self._cup_q : self._cup_q + 7] = (
            *(placement.x, placement.y, 0.0),
            *(np.cos(half), 0.0, 0.0, np.sin(half)),
        )
        self._joint_target = joints.copy()
        self._opening_target = MAX_OPENING
        data.ctrl[:] = (*self._joint_target, self._opening_target)
        self._placement = placement
        self._seed = int(seed)
        self._time += self.CONTROL_PERIOD
        self._reset_time = self._time
        self._disturbance: Disturbance | None = None
        self.disturb(disturbance)

    def _start_joints(self, start: ArrayLike) -> Array:
        pose = np.asarray(start, dtype=np.float64)
        if pose.shape != (7,):
            raise DataError(
                f"simulation: start pose must be (7,): x y z qx qy qz qw, got {pose.shape}"
            )
        check_poses(pose, "simulation, start pose")
        joints = self.inverse_kinematics(self._home_joints, pose, _START_ITERATIONS)
        distance, angle = pose_distance(self.forward_kinematics(joints), pose)
        if max(distance, angle) > _START_TOLERANCE:
            raise ConfigurationError(
                f"simulation: start pose {pose.round(3).tolist()} must be within the arm's reach, "
                f"it comes as near as {distance:.3f} m and {angle:.3f} rad: take one nearer home"
            )
        return joints

    def disturb(self, disturbance: Disturbance | None) -> None:
        """Switch to a disturbance, or to none, at any moment of an episode."""
        if disturbance is not None and disturbance.kind == "unrelated_image":
            self._photograph = self._photograph or Photograph()
        self._disturbance = disturbance
        kind = disturbance.kind if disturbance is not None else ""
        self._wear(TUMBLER if kind == "changed_cup" else MUG)
        self._place_distractors(kind == "distractors")
        self._light(disturbance)
        self._place_cameras(disturbance)
        self._first_images: dict[str, NDArray[np.uint8]] = {}
        mujoco.mj_forward(self._model, self._data)

    def _wear(self, worn: CupLook) -> None:
        model = self._model
        for name, geometry in self._looks.items():
            for i, (group, contype, conaffinity) in geometry.items():
                shown = name == worn.name
                model.geom_group[i] = group if shown else HIDDEN
                model.geom_contype[i] = contype if shown else 0
                model.geom_conaffinity[i] = conaffinity if shown else 0

    def _light(self, disturbance: Disturbance | None) -> None:
        model, headlight = self._model, self._model.vis.headlight
        diffuse, specular, ambient, from_camera = self._lights
        model.light_diffuse[:], model.light_specular[:] = diffuse, specular
        headlight.ambient[:], headlight.diffuse[:] = ambient, from_camera
        light = disturbance.light if disturbance is not None else None
        if light is not None:
            model.light_diffuse *= light.room
            model.light_diffuse[self._lamp] = diffuse[self._lamp] * light.lamp
            model.light_specular[self._lamp] *= light.lamp
            headlight.ambient *= light.room
            headlight.diffuse *= light.room

    def _place_cameras(self, disturbance: Disturbance | None) -> None:
        model = self._model
        model.cam_pos[:], model.cam_quat[:] = self._cameras
        if disturbance is not None and disturbance.kind == "moved_camera":
            rng = np.random.default_rng((self._seed, 3, disturbance.variant))
            i = model.camera(disturbance.view).id
            model.cam_pos[i], model.cam_quat[i] = knocked_camera(
                model.cam_pos[i], model.cam_quat[i], disturbance.view, rng
            )

    def _place_distractors(self, present: bool) -> None:
        rng = np.random.default_rng((self._seed, 1))
        cup = np.array([self._placement.x, self._placement.y])
        layout = distractor_positions(cup, rng) if present else {}
        for name in DISTRACTORS:
            mocap = self._model.body(name).mocapid[0]
            xy = layout.get(name, np.zeros(2))
            height = DISTRACTOR_HEIGHTS[name] if present else -3.0
            half = rng.uniform(-np.pi, np.pi) / 2
            self._data.mocap_pos[mocap] = (xy[0], xy[1], height)
            self._data.mocap_quat[mocap] = (np.cos(half), 0.0, 0.0, np.sin(half))
            self._model.geom_group[self._model.geom(name).id] = SHOWN if present else HIDDEN

    def step(self, target_pose: Array, target_gripper: float) -> None:
        """Advance by one control period towards a target.

        A target beyond reach is approached as near as the arm gets; an opening beyond the stops
        ends at the stops, as on a real gripper.

        Args:
            target_pose: (7,) pose of the grasp point in the base frame: metres, quaternion xyzw.
            target_gripper: Opening between the pads, metres.

        Raises:
            DataError: The target is of the wrong shape, not finite or no unit quaternion.
        """
        target_pose = np.asarray(target_pose, dtype=np.float64)
        if target_pose.shape != (7,):
            raise DataError(
                f"simulation: target pose must be (7,): x y z qx qy qz qw, got {target_pose.shape}"
            )
        check_poses(target_pose, "simulation, target pose")
        wanted = self.inverse_kinematics(self._joint_target, target_pose)
        self.step_joints(wanted, target_gripper)

    def step_joints(self, target_joints: Array, target_gripper: float) -> None:
        """Advance by one control period towards joint positions, at the joints' speed.

        Args:
            target_joints: (6,) in the order of ``ARM_JOINTS``, radians.
            target_gripper: Opening between the pads, metres.

        Raises:
            DataError: A target is of the wrong shape or not finite.
        """
        if np.shape(target_joints) != (6,) or not np.isfinite(target_joints).all():
            raise DataError(
                f"simulation: target joints must be 6 finite angles, got {target_joints}"
            )
        if not np.isfinite(target_gripper):
            raise DataError(
                f"simulation: target gripper must be a finite opening in metres, "
                f"got {target_gripper}"
            )
        period = self.CONTROL_PERIOD * 1e-9
        change = np.clip(target_joints, *self._arm_limits.T) - self._joint_target
        change *= min(1.0, MAX_JOINT_SPEED * period / max(float(np.abs(change).max()), 1e-12))
        opening = float(np.clip(target_gripper, 0.0, MAX_OPENING)) - self._opening_target
        opening = float(np.clip(opening, -MAX_GRIPPER_SPEED * period, MAX_GRIPPER_SPEED * period))
        for _ in range(_SUBSTEPS):
            self._joint_target += change / _SUBSTEPS
            self._opening_target += opening / _SUBSTEPS
            self._data.ctrl[:] = (*self._joint_target, self._opening_target)
            mujoco.mj_step(self._model, self._data)
        mujoco.mj_kinematics(self._model, self._data)  # poses belong to the time reached
        self._time += self.CONTROL_PERIOD

    def forward_kinematics(self, joints: Array) -> Array:
        """Return the pose (7,) of the grasp point at joint positions (6,), radians."""
        self._plan.qpos[self._arm_q] = joints
        mujoco.mj_kinematics(self._model, self._plan)
        return self._grasp_pose(self._plan)

    def inverse_kinematics(
        self, start: Array, target: Array, iterations: int = _IK_ITERATIONS
    ) -> Array:
        """Return joint positions (6,), radians, by damped least squares from ``start``.

        Buss 2004, "Introduction to Inverse Kinematics", eq. 11. The nearest that was found, where
        the target (7,) cannot be reached.
        """
        model, plan = self._model, self._plan
        joints: Array = start.copy()
        rotation = Rotation.from_quat(target[3:])
        low, high = self._arm_limits.T
        jacobian = np.zeros((6, model.nv))
        for _ in range(iterations):
            plan.qpos[self._arm_q] = joints
            mujoco.mj_kinematics(model, plan)
            mujoco.mj_comPos(model, plan)
            current = Rotation.from_matrix(plan.site_xmat[self._grasp_site].reshape(3, 3))
            error = np.concatenate(
                [
                    target[:3] - plan.site_xpos[self._grasp_site],
                    (rotation * current.inv()).as_rotvec(),
                ]
            )
            if np.abs(error).max() < _IK_TOLERANCE:
                break
            mujoco.mj_jacSite(model, plan, jacobian[:3], jacobian[3:], self._grasp_site)
            j = jacobian[:, self._arm_v]  # (6, 6)
            for part in (error[:3], error[3:]):  # apart: far away must not mean tilted
                part *= min(1.0, _IK_STRIDE / max(float(np.linalg.norm(part)), 1e-12))
            change = np.zeros(6)
            free = np.ones(6, dtype=bool)
            for _ in ARM_JOINTS:  # a joint that would pass its stop stays, the others take over
                j *= free
                change = j.T @ np.linalg.solve(j @ j.T + _DAMPING**2 * np.eye(6), error)
                passing = (joints + change < low) | (joints + change > high)
                if not (passing & free).any():
                    break
                free &= ~passing
            joints = np.clip(joints + change, low, high)
        return joints

    @property
    def time(self) -> int:
        """Simulated time, ns; starts near 0 at construction and never goes back, over resets."""
        return self._time

    @property
    def placement(self) -> CupPlacement:
        """Where the cup was put at the last reset."""
        return self._placement

    def pose(self) -> Array:
        """Return the measured pose of the grasp point (7,): metres, quaternion xyzw.

        Of the two quaternions of a rotation it is the one nearer to ``HOME_POSE``'s.
        """
        return self._grasp_pose(self._data)

    def _grasp_pose(self, data: Any) -> Array:
        matrix = data.site_xmat[self._grasp_site].reshape(3, 3)
        quaternion = Rotation.from_matrix(matrix).as_quat()
        if quaternion @ HOME_POSE[3:] < 0:
            quaternion = -quaternion
        return np.concatenate([data.site_xpos[self._grasp_site], quaternion])

    def joints(self) -> Array:
        """Return the measured joint positions (6,) in the order of ``ARM_JOINTS``, radians."""
        return self._data.qpos[self._arm_q].copy()

    def gripper(self) -> float:
        """Return the measured opening between the pads, metres."""
        return float(self._data.qpos[self._finger_q].sum())

    def cup_pose(self) -> Array:
        """Return the pose of the cup's bottom centre (7,), x along the handle; quaternion xyzw."""
        state = self._data.qpos[self._cup_q : self._cup_q + 7]
        return np.concatenate([state[:3], state[4:], state[3:4]])

    def success(self) -> bool:
        """Return whether the cup is lifted by 5 cm or more and held between both fingers."""
        cup = self.cup_pose()
        if cup[2] < LIFT_HEIGHT:
            return False
        pose = self.pose()
        upright = Rotation.from_quat(cup[3:])
        height = upright.inv().apply(pose[:3] - cup[:3])[2]
        axis_point = cup[:3] + upright.apply([0.0, 0.0, height])
        if float(np.linalg.norm(axis_point - pose[:3])) > GRASP_REACH:
            return False
        cup_geometry = self._looks[MUG.name].keys() | self._looks[TUMBLER.name].keys()
        contacts = [set(pair) for pair in self._data.contact.geom[: self._data.ncon].tolist()]
        touching = [pair for pair in contacts if pair & cup_geometry]
        return all(any(pair & pads for pair in touching) for pads in self._pads)

    def render(self) -> dict[str, NDArray[np.uint8]]:
        """Return every view as (H, W, 3) uint8 RGB, disturbed where a disturbance is on.

        Raises:
            ConfigurationError: Rendering was declined at construction, or another thread renders.
            DependencyError: No GL context can be made on this machine.
        """
        renderer = self._open_renderer()
        images: dict[str, NDArray[np.uint8]] = {}
        for view in VIEWS:
            renderer.update_scene(self._data, camera=view)
            images[view] = np.array(renderer.render(), dtype=np.uint8)
        if self._disturbance is None:
            return images
        self._first_images = self._first_images or images
        rng = np.random.default_rng((self._seed, 2, self._time - self._reset_time))
        return disturbed_images(
            images, self._disturbance, self._first_images, self._photograph, rng
        )

    def _open_renderer(self) -> Any:
        if not self._rendering:
            raise ConfigurationError(
                "simulation was built with render=False: build it with render=True to get images"
            )
        thread = threading.get_ident()
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self._model, *self._image_size)
            except Exception as error:  # the GL libraries raise types of their own
                raise DependencyError(
                    f"simulation: no GL context with MUJOCO_GL={os.environ.get('MUJOCO_GL')} "
                    f"({error}): {_GL_REMEDY}"
                ) from error
            self._render_thread = thread
        elif thread != self._render_thread:
            raise ConfigurationError(
                f"simulation renders in thread {self._render_thread}, got a call from thread "
                f"{thread}: a GL context belongs to one thread, render from that one"
            )
        return self._renderer

    def __enter__(self) -> CupGraspSimulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the GL context; the simulation may still be stepped, and rendering reopens it."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
