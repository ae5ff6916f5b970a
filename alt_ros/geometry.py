"""SE(3): rot6d, interpolation, distances. Rotations go through scipy's Rotation and Slerp.

A pose is (7,): position x, y, z in metres, quaternion x, y, z, w.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import DataError
from alt_ros.types import ARM_ACTION_SIZE

Array = NDArray[np.float64]


def quaternion_to_rot6d(quaternions: Array) -> Array:
    """Return the first two columns of the rotation matrix, one after the other.

    Args:
        quaternions: (..., 4) x, y, z, w.

    Returns:
        (..., 6) float64; Zhou et al. 2019, "On the Continuity of Rotation Representations in
        Neural Networks", eq. 15.
    """
    flat = np.array(quaternions, dtype=np.float64).reshape(-1, 4)  # scipy wants it writable
    matrices = Rotation.from_quat(flat).as_matrix()  # (n, 3, 3)
    columns = matrices[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    return columns.reshape(*np.shape(quaternions)[:-1], 6)


def rot6d_to_quaternion(rot6d: Array) -> Array:
    """Return the quaternion of the Gram-Schmidt rotation (Zhou et al. 2019, eq. 14).

    Args:
        rot6d: (..., 6) two column vectors, not necessarily orthonormal.

    Returns:
        (..., 4) x, y, z, w with w >= 0.

    Raises:
        DataError: The two vectors are zero or parallel, so that no rotation is meant.
    """
    flat = np.asarray(rot6d, dtype=np.float64).reshape(-1, 6)
    first, second = flat[:, :3], flat[:, 3:]
    norm = np.linalg.norm(first, axis=1, keepdims=True)
    x = first / np.maximum(norm, 1e-12)
    rest = second - (x * second).sum(axis=1, keepdims=True) * x
    rest_norm = np.linalg.norm(rest, axis=1, keepdims=True)
    if (norm < 1e-6).any() or (rest_norm < 1e-6).any():
        raise DataError("rot6d must hold two vectors that are neither zero nor parallel")
    y = rest / rest_norm
    matrices = np.stack([x, y, np.cross(x, y)], axis=2)  # columns
    quaternions = Rotation.from_matrix(matrices).as_quat(canonical=True)
    return quaternions.reshape(*np.shape(rot6d)[:-1], 4)


def arm_action(poses: Array, grippers: Array) -> Array:
    """Return action rows for end-effector targets.

    Args:
        poses: (..., arms, 7) target poses.
        grippers: (..., arms) target openings in metres.

    Returns:
        (..., arms * 10): per arm position 3, rot6d 6, gripper 1.
    """
    poses, grippers = np.asarray(poses, np.float64), np.asarray(grippers, np.float64)
    rows = np.concatenate(
        [poses[..., :3], quaternion_to_rot6d(poses[..., 3:]), grippers[..., None]], axis=-1
    )
    return rows.reshape(*rows.shape[:-2], rows.shape[-2] * ARM_ACTION_SIZE)


def split_arm_action(action: Array, arms: int) -> tuple[Array, Array]:
    """Return the target poses (..., arms, 7) and openings (..., arms) of action rows."""
    rows = np.asarray(action, np.float64)[..., : arms * ARM_ACTION_SIZE]
    rows = rows.reshape(*rows.shape[:-1], arms, ARM_ACTION_SIZE)
    quaternions = rot6d_to_quaternion(rows[..., 3:9])
    return np.concatenate([rows[..., :3], quaternions], axis=-1), rows[..., 9]


def interpolate_pose(start: Array, end: Array, fraction: float) -> Array:
    """Return the pose at ``fraction`` of the way: linear in position, slerp in rotation.

    Args:
        start: (7,) pose.
        end: (7,) pose.
        fraction: 0 gives start, 1 gives end.

    Returns:
        (7,) pose; the rotation takes the shorter way.
    """
    position = start[:3] + fraction * (end[:3] - start[:3])
    turn = rotation_between(start, end)
    rotation = Rotation.from_rotvec(fraction * turn) * Rotation.from_quat(start[3:])
    return np.concatenate([position, rotation.as_quat()])


def rotation_between(start: Array, end: Array) -> Array:
    """Return the rotation vector (3,), radians, base frame, that turns start into end."""
    return (Rotation.from_quat(end[3:]) * Rotation.from_quat(start[3:]).inv()).as_rotvec()


def pose_distance(first: Array, second: Array) -> tuple[float, float]:
    """Return the distance of two poses: metres, radians."""
    distances, angles = pose_distances(first[None], second)
    return float(distances[0]), float(angles[0])


def pose_distances(many: Array, pose: Array) -> tuple[Array, Array]:
    """Return how far each of (n, 7) poses is from one (7,): metres (n,), radians (n,)."""
    turns = Rotation.from_quat(many[:, 3:]) * Rotation.from_quat(pose[3:]).inv()
    return np.linalg.norm(many[:, :3] - pose[:3], axis=1), turns.magnitude()
