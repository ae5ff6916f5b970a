from __future__ import annotations

import numpy as np

from alt_ros.geometry import pose_distance
from alt_ros.simulation.arm_kinematics import inverse_kinematics
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.scene import HOME_JOINTS, HOME_POSE


def test_the_joints_that_are_found_put_the_arm_there():
    pose = HOME_POSE + np.array([0.02, -0.03, 0.01, 0, 0, 0, 0])
    joints = inverse_kinematics(pose, HOME_JOINTS)
    assert joints is not None
    with CupGraspSimulation(render=False) as simulation:
        distance, angle = pose_distance(simulation.forward_kinematics(joints), pose)
    assert distance < 0.001
    assert angle < 0.01


def test_a_pose_out_of_reach_has_no_joints():
    assert inverse_kinematics(HOME_POSE + np.array([2.0, 0, 0, 0, 0, 0, 0]), HOME_JOINTS) is None
