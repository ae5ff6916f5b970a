"""The cup scene as MJCF, built in code: table, six-axis arm, parallel gripper, cup, two cameras.

The base frame is the world frame: origin at the foot of the robot on the table top, x forward,
y left, z up. The tool frame sits between the finger tips: z out of the gripper, fingers on +-y.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError

VIEWS = ("wrist", "third_person")
ARM_JOINTS = ("pan", "shoulder", "elbow", "wrist_pitch", "wrist_roll", "wrist_yaw")
FINGER_JOINTS = ("left_finger", "right_finger")
MAX_OPENING = 0.10
"""Opening of the gripper at the stops, metres."""
HOME_POSE: NDArray[np.float64] = np.array([0.48, 0.0, 0.26, 1.0, 0.0, 0.0, 0.0])
"""(7,) where an episode starts: over the middle of the table, tool pointing down."""
HOME_POSE.setflags(write=False)
HOME_JOINTS: NDArray[np.float64] = np.radians([0.0, 17.4, 100.2, 62.4, 0.0, 0.0])
"""(6,) joint positions near ``HOME_POSE``, elbow up; inverse kinematics starts here. Radians."""
HOME_JOINTS.setflags(write=False)
DISTRACTORS = ("blue_box", "green_ball", "yellow_cylinder", "purple_box", "pink_cylinder")

SHOWN, HIDDEN, COLLISION = 1, 5, 4
"""Geometry groups: rendered, switched off, and never rendered."""
LAMP = "lamp"
"""Name of the light that gives the scene most of its light; the other one only fills shadows."""


@dataclass(frozen=True)
class CupPlacement:
    """Where the cup stands on the table.

    Attributes:
        x, y: Centre of the cup's bottom in the base frame, metres.
        yaw: Direction of the handle, radians from +x; also the yaw that the gripper takes.
    """

    x: float
    y: float
    yaw: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.x, self.y, self.yaw)):
            raise DataError(f"cup placement must be finite, got {self}")


@dataclass(frozen=True)
class CupLook:
    """Shape and colours of a cup; lengths in metres, colours r g b.

    Attributes:
        name: Prefix of the names of its geometry.
        radius, height, wall: Outer radius, height and wall thickness.
        handle: Whether it has a handle, on its +x side.
        outside, inside: Colours.
    """

    name: str
    radius: float
    height: float
    wall: float
    handle: bool
    outside: str
    inside: str


MUG = CupLook("mug", 0.035, 0.090, 0.004, True, "0.93 0.34 0.16", "0.99 0.90 0.76")
TUMBLER = CupLook("tumbler", 0.031, 0.120, 0.004, False, "0.16 0.62 0.42", "0.80 0.95 0.86")
LOOKS = (MUG, TUMBLER)

_WALLS = 20  # boxes of the collision ring
_FACETS = 48  # facets of the visible wall


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _lathe(name: str, profile: Sequence[tuple[float, float]]) -> str:
    """Return a mesh asset: the profile of (radius, z), bottom to top, turned about z.

    The side on the left of the profile's direction of travel is culled, so a profile that goes up
    is seen from outside and one that goes down is seen from inside.
    """
    angles = np.linspace(0.0, 2 * np.pi, _FACETS, endpoint=False)
    vertices = [
        (radius * np.cos(angle), radius * np.sin(angle), z)
        for radius, z in profile
        for angle in angles
    ]
    faces = []
    for ring in range(len(profile) - 1):
        for facet in range(_FACETS):
            a, b = ring * _FACETS + facet, ring * _FACETS + (facet + 1) % _FACETS
            c, d = a + _FACETS, b + _FACETS
            faces += [(a, b, d), (a, d, c)]
    return (
        f'<mesh name="{name}" inertia="shell" '
        f'vertex="{_numbers(np.ravel(vertices))}" face="{_numbers(np.ravel(faces))}"/>'
    )


def _cup_assets(look: CupLook) -> str:
    r, h, w = look.radius, look.height, look.wall
    outside = [(0.5 * r, 0.0), (r - 0.004, 0.0), (r - 0.001, 0.0015), (r, 0.005)]
    outside += [(r, h - 0.002), (r - 0.3 * w, h - 0.0004), (r - 0.5 * w, h)]
    inside = [(r - 0.5 * w, h), (r - 0.8 * w, h - 0.0006), (r - w, h - 0.003)]
    inside += [(r - w, w + 0.006), (r - w - 0.006, w), (0.0002, w)]
    return _lathe(f"{look.name}_outside", outside) + _lathe(f"{look.name}_inside", inside)


def _cup_geometry(look: CupLook) -> str:
    """Return the visible shells, and a hidden ring of boxes with a bottom that collides."""
    r, h, w = look.radius, look.height, look.wall
    name = look.name
    lines = [
        f'<geom name="{name}_outside" class="visual" type="mesh" mesh="{name}_outside" '
        f'material="cup" rgba="{look.outside} 1"/>',
        f'<geom name="{name}_inside" class="visual" type="mesh" mesh="{name}_inside" '
        f'material="cup" rgba="{look.inside} 1"/>',
        f'<geom name="{name}_bottom" class="cup_collision" type="cylinder" '
        f'size="{r - 0.001} {w / 2}" pos="0 0 {w / 2}"/>',
    ]
    half_width = (r - w / 2) * math.tan(math.pi / _WALLS)
    for i in range(_WALLS):
        angle = 2 * math.pi * i / _WALLS
        x, y = (r - w / 2) * math.cos(angle), (r - w / 2) * math.sin(angle)
        lines.append(
            f'<geom name="{name}_wall_{i}" class="cup_collision" type="box" '
            f'size="{w / 2} {half_width:.6g} {(h - w) / 2}" '
            f'pos="{x:.6g} {y:.6g} {(h + w) / 2}" euler="0 0 {angle:.6g}"/>'
        )
    if look.handle:
        angles = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
        points = [
            (r - 0.002 + 0.027 * math.cos(a), 0.47 * h + 0.027 * math.sin(a)) for a in angles
        ]
        for i, ((x0, z0), (x1, z1)) in enumerate(pairwise(points)):
            lines.append(
                f'<geom name="{name}_handle_{i}" class="cup_collision" type="capsule" '
                f'group="{SHOWN}" size="0.0052" material="cup" rgba="{look.outside} 1" '
                f'fromto="{x0:.6g} 0 {z0:.6g} {x1:.6g} 0 {z1:.6g}"/>'
            )
    return "\n".join(lines)


def _camera(name: str, position: Sequence[float], target: Sequence[float], fovy: float) -> str:
    """Return a camera that looks from ``position`` to ``target`` with its right side level.

    Args:
        name: ``wrist``, which hangs in the tool frame upside down, or another.
        position: (3,) of the lens in the parent's frame, metres.
        target: (3,) point in the middle of the image, metres.
        fovy: Vertical field of view, degrees.
    """
    up = np.array([0.0, 0.0, -1.0 if name == "wrist" else 1.0])
    backward = np.subtract(position, target)
    backward = backward / np.linalg.norm(backward)
    right = np.cross(up, backward)
    right /= np.linalg.norm(right)
    axes = _numbers([*right, *np.cross(backward, right)])
    return f'<camera name="{name}" pos="{_numbers(position)}" xyaxes="{axes}" fovy="{fovy}"/>'


def _finger(side: str, sign: int) -> str:
    """Return a finger whose pad's inner face lies in the tool's x-z plane when closed."""
    return f"""
    <body name="{side}_finger" pos="0 0 -0.085">
      <joint name="{side}_finger" type="slide" axis="0 {sign} 0" range="0 {MAX_OPENING / 2}"
             armature="0.2" damping="5"/>
      <geom class="robot_collision" type="box" size="0.011 0.006 0.041"
            pos="0 {sign * 0.009} 0.037" group="{SHOWN}" material="dark" mass="0.06"/>
      <geom name="{side}_pad" class="pad" type="box" size="0.006 0.003 0.020"
            pos="0 {sign * 0.003} 0.076" material="pad" mass="0.02"/>
      <geom class="visual" type="box" size="0.0105 0.0055 0.020" pos="0 {sign * 0.0095} 0.077"
            material="dark"/>
    </body>"""


_DISTRACTOR_SHAPES = {
    "blue_box": ("box", "0.024 0.024 0.028", "0.15 0.38 0.86"),
    "green_ball": ("sphere", "0.027", "0.35 0.76 0.26"),
    "yellow_cylinder": ("cylinder", "0.022 0.036", "0.98 0.80 0.12"),
    "purple_box": ("box", "0.036 0.018 0.018", "0.54 0.27 0.72"),
    "pink_cylinder": ("cylinder", "0.031 0.014", "0.95 0.48 0.66"),
}
DISTRACTOR_HEIGHTS = {
    name: float(size.split()[-1]) for name, (_, size, _) in _DISTRACTOR_SHAPES.items()
}
"""Height of each distractor's centre above the table, metres."""


def _distractors() -> str:
    return "\n".join(
        f'<body name="{name}" mocap="true" pos="0 0 -3"><geom name="{name}" type="{shape}" '
        f'size="{size}" rgba="{colour} 1" group="{HIDDEN}" material="toy"/></body>'
        for name, (shape, size, colour) in _DISTRACTOR_SHAPES.items()
    )


def _actuators() -> str:
    """Return stiff position servos: the arm lags about 6 ms behind its joint targets."""
    gains = (160e3, 160e3, 80e3, 24e3, 16e3, 8e3)  # N m / rad
    forces = (600, 600, 400, 150, 80, 40)  # N m
    lines = [
        f'<position name="{joint}" joint="{joint}" kp="{gain}" dampratio="0.8" '
        f'forcerange="-{force} {force}"/>'
        for joint, gain, force in zip(ARM_JOINTS, gains, forces, strict=True)
    ]
    lines.append(
        '<position name="gripper" tendon="opening" kp="1500" kv="60" forcerange="-30 30" '
        f'ctrlrange="0 {MAX_OPENING}"/>'
    )
    return "\n".join(lines)


def scene_mjcf(image_size: tuple[int, int], antialiasing: bool = False) -> str:
    """Return the scene as an MJCF document.

    Args:
        image_size: (height, width) of the largest image to be rendered, pixels.
        antialiasing: Whether edges are smoothed, with four samples a pixel.
    """
    height, width = image_size
    return f"""
<mujoco model="cup_grasp">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.002" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality shadowsize="0" offsamples="{4 if antialiasing else 0}"/>
    <headlight ambient="0.34 0.34 0.36" diffuse="0.22 0.22 0.22" specular="0.05 0.05 0.05"/>
    <map znear="0.01" zfar="20"/>
  </visual>
  <default>
    <geom solref="0.004 1"/>
    <default class="visual">
      <geom contype="0" conaffinity="0" mass="0" group="{SHOWN}"/>
    </default>
    <default class="cup_collision">
      <geom group="{COLLISION}" mass="0" condim="4" friction="0.5 0.01 0.001"
            contype="1" conaffinity="3"/>
    </default>
    <default class="robot_collision">
      <geom group="{COLLISION}" contype="2" conaffinity="1" friction="0.5 0.01 0.001"/>
      <default class="pad">
        <geom group="{SHOWN}" condim="4"/>
      </default>
    </default>
  </default>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.80 0.86 0.92"
             rgb2="0.42 0.50 0.60" width="64" height="64"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.50 0.53 0.57" rgb2="0.46 0.49 0.53"
             width="64" height="64"/>
    <texture name="table" type="2d" builtin="checker" rgb1="0.87 0.79 0.66" rgb2="0.82 0.73 0.60"
             width="64" height="64"/>
    <texture name="mat" type="2d" builtin="checker" rgb1="0.24 0.30 0.38" rgb2="0.28 0.345 0.43"
             mark="edge" markrgb="0.36 0.43 0.52" width="128" height="128"/>
    <material name="floor" texture="floor" texrepeat="8 8" texuniform="false" specular="0"/>
    <material name="table" texture="table" texrepeat="5 5" specular="0.1" shininess="0.1"/>
    <material name="mat" texture="mat" texrepeat="4 5" specular="0.05" shininess="0.1"/>
    <material name="cup" specular="0.5" shininess="0.6"/>
    <material name="toy" specular="0.3" shininess="0.4"/>
    <material name="shell" rgba="0.92 0.93 0.95 1" specular="0.4" shininess="0.5"/>
    <material name="dark" rgba="0.17 0.19 0.23 1" specular="0.3" shininess="0.4"/>
    <material name="accent" rgba="0.10 0.58 0.66 1" specular="0.4" shininess="0.5"/>
    <material name="pad" rgba="0.10 0.66 0.74 1" specular="0.1" shininess="0.1"/>
    {"".join(_cup_assets(look) for look in LOOKS)}
  </asset>
  <worldbody>
    <light name="{LAMP}" pos="0.9 -0.9 1.6" dir="-0.35 0.55 -1" directional="true"
           castshadow="false" diffuse="0.55 0.54 0.52" specular="0.3 0.3 0.3"/>
    <light pos="-0.5 1.0 1.6" dir="0.5 -0.6 -0.8" directional="true" castshadow="false"
           diffuse="0.18 0.19 0.22" specular="0 0 0"/>
    <geom class="visual" type="plane" size="4 4 0.1" pos="0.4 0 -0.72" material="floor"/>
    <geom name="table" type="box" size="0.55 0.60 0.02" pos="0.40 0 -0.02" material="table"
          friction="0.5 0.01 0.001" contype="3" conaffinity="3"/>
    <geom class="visual" type="box" size="0.24 0.30 0.0004" pos="0.55 0 0.0004" material="mat"/>
    {_camera("third_person", (1.29, -0.80, 0.82), (0.51, 0.0, 0.115), 31)}
    <body name="base">
      <geom class="visual" type="cylinder" size="0.085 0.012" pos="0 0 0.012" material="dark"/>
      <geom class="robot_collision" type="cylinder" size="0.065 0.07" pos="0 0 0.07"
            group="{SHOWN}" material="shell"/>
      <body name="turret" pos="0 0 0.14" gravcomp="1">
        <joint name="pan" axis="0 0 1" range="-2.6 2.6" armature="1"/>
        <geom class="visual" type="cylinder" size="0.066 0.008" material="accent"/>
        <geom class="visual" type="capsule" size="0.062" fromto="0 0 0.03 0 0 0.19"
              material="shell" mass="3"/>
        <geom class="visual" type="cylinder" size="0.050 0.070" pos="0 0 0.19"
              euler="1.5708 0 0" material="dark"/>
        <body name="upper_arm" pos="0 0 0.19" gravcomp="1">
          <joint name="shoulder" axis="0 1 0" range="-0.6 2.2" armature="1"/>
          <geom class="visual" type="capsule" size="0.050" fromto="0 0 0.02 0 0 0.41"
                material="shell" mass="2"/>
          <geom class="visual" type="cylinder" size="0.0515 0.012" pos="0 0 0.21"
                material="accent"/>
          <geom class="visual" type="cylinder" size="0.043 0.060" pos="0 0 0.42"
                euler="1.5708 0 0" material="dark"/>
          <body name="forearm" pos="0 0 0.42" gravcomp="1">
            <joint name="elbow" axis="0 1 0" range="0.1 2.75" armature="0.8"/>
            <geom class="visual" type="capsule" size="0.042" fromto="0 0 0.03 0 0 0.39"
                  material="shell" mass="1.5"/>
            <geom class="visual" type="cylinder" size="0.0435 0.010" pos="0 0 0.20"
                  material="accent"/>
            <geom class="visual" type="cylinder" size="0.033 0.048" pos="0 0 0.40"
                  euler="1.5708 0 0" material="dark"/>
            <body name="wrist" pos="0 0 0.40" gravcomp="1">
              <joint name="wrist_pitch" axis="0 1 0" range="-2.6 3.6" armature="0.3"/>
              <geom class="visual" type="capsule" size="0.034" fromto="0 0 0.0 0 0 0.07"
                    material="shell" mass="0.5"/>
              <body name="wrist_cross" pos="0 0 0.07" gravcomp="1">
                <joint name="wrist_roll" axis="1 0 0" range="-1.4 1.4" armature="0.25"/>
                <geom class="visual" type="cylinder" size="0.026 0.040" euler="0 1.5708 0"
                      material="dark" mass="0.3"/>
                <body name="hand" pos="0 0 0.215" quat="0 0 0 1" gravcomp="1">
                  <joint name="wrist_yaw" axis="0 0 1" range="-3.1 3.1" armature="0.12"/>
                  <site name="grasp" size="0.004" group="{HIDDEN}"/>
                  <geom class="visual" type="cylinder" size="0.033 0.020" pos="0 0 -0.155"
                        material="shell"/>
                  <geom class="visual" type="cylinder" size="0.034 0.005" pos="0 0 -0.142"
                        material="accent"/>
                  <geom class="robot_collision" type="box" size="0.028 0.068 0.024"
                        pos="0 0 -0.112" group="{SHOWN}" material="dark" mass="0.5"/>
                  <geom class="visual" type="box" size="0.030 0.014 0.009" pos="0.056 0 -0.118"
                        material="dark"/>
                  {_camera("wrist", (0.088, 0, -0.102), (0.041, 0, 0.0), 80)}
                  {_finger("left", -1)}
                  {_finger("right", 1)}
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="cup">
      <freejoint name="cup"/>
      <inertial pos="0.002 0 0.042" mass="0.16" diaginertia="1.8e-4 1.8e-4 1.5e-4"/>
      {"".join(_cup_geometry(look) for look in LOOKS)}
    </body>
    {_distractors()}
  </worldbody>
  <tendon>
    <fixed name="opening">
      <joint joint="left_finger" coef="1"/><joint joint="right_finger" coef="1"/>
    </fixed>
  </tendon>
  <equality>
    <joint joint1="left_finger" joint2="right_finger" solref="0.004 1" solimp="0.95 0.99 0.001"/>
  </equality>
  <actuator>
    {_actuators()}
  </actuator>
</mujoco>"""
