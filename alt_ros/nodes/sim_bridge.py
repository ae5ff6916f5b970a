"""The sim_bridge node: the simulated cup scene behind the topics of a real robot."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from alt_ros.errors import AltError, ConfigurationError
from alt_ros.messages import nanoseconds
from alt_ros.nodes.conversions import to_image, to_pose, to_pose_stamped, to_time
from alt_ros.nodes.node import LATCHED, RELIABLE, SENSOR, AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.nodes.sim_commands import SimCommands
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.scenarios import scenario
from alt_ros.simulation.scene import ARM_JOINTS
from alt_ros.srv import ResetSimulation, SetDisturbance, StepSimulation

BASE_FRAME = "base"
# Resetting the scene takes a person some seconds; a gap in the stamps of every stream tells
# synchroniser and lookup that a new episode begins.
RESET_GAP = 3_000_000_000


@dataclass(frozen=True)
class SimBridgeParameters:
    """Parameters of sim_bridge."""

    image_height: int = parameter(
        128, "Height of both camera images", unit="px", low=16, high=1080
    )
    image_width: int = parameter(128, "Width of both camera images", unit="px", low=16, high=1920)
    camera_rate: float = parameter(
        20.0, "Images a second of either camera", unit="Hz", low=1.0, high=100.0
    )
    command: str = parameter(
        "pose",
        "What it follows: target_pose, target_twist or joint_trajectory",
        choices=("pose", "twist", "joint_trajectory"),
    )
    speed: float = parameter(
        1.0, "Simulated per real second; 0 runs as fast as it can", low=0.0, high=100.0
    )


class SimBridge(AltNode):
    """Step the simulation, publish cameras, pose, gripper and /clock, follow the commands."""

    name = "sim_bridge"
    Parameters = SimBridgeParameters

    def configure(self) -> None:
        """Build the scene, publishers, subscriptions and services."""
        p = self.parameters
        self._period = CupGraspSimulation.CONTROL_PERIOD
        if round(1e9 / p.camera_rate) % self._period:
            raise ConfigurationError(
                f"camera_rate must divide {1e9 / self._period:.0f} Hz evenly, got {p.camera_rate}"
            )
        self._frames_every = round(1e9 / p.camera_rate) // self._period
        self._simulation = CupGraspSimulation((p.image_height, p.image_width))
        self._simulation.reset(scenario("ind").trial(0, 0).placement)
        self._offset = self._steps = 0
        self._paused = False
        self._images = {
            view: self.create_lifecycle_publisher(Image, f"{view}/image_raw", SENSOR)
            for view in CupGraspSimulation.VIEWS
        }
        self._pose = self.create_lifecycle_publisher(PoseStamped, "eef_pose", SENSOR)
        self._gripper = self.create_lifecycle_publisher(JointState, "gripper_state", SENSOR)
        self._joints = self.create_lifecycle_publisher(JointState, "joint_states", SENSOR)
        self._clock_publisher = self.create_lifecycle_publisher(ClockMessage, "/clock", RELIABLE)
        self._cup = self.create_lifecycle_publisher(PoseStamped, "sim/cup_pose", RELIABLE)
        self._success = self.create_lifecycle_publisher(Bool, "sim/success", LATCHED)
        self._commands = SimCommands(self, p.command, self._simulation)
        self.create_service(ResetSimulation, "sim/reset", self._on_reset)
        self.create_service(SetDisturbance, "sim/set_disturbance", self._on_disturbance)
        self.create_service(SetBool, "sim/pause", self._on_pause)
        self.create_service(StepSimulation, "sim/step", self._on_step)

    def activate(self) -> None:
        """Let time run."""
        # Wall-clock timer: /clock itself comes from here.
        period = self._period / 1e9 / self.parameters.speed if self.parameters.speed else 1e-4
        self._next = time.monotonic()
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(period, self._on_timer, clock=clock)

    def deactivate(self) -> None:
        """Let time stand."""
        self.destroy_timer(self._timer)

    @property
    def _time(self) -> int:
        return self._simulation.time + self._offset

    def _on_timer(self) -> None:
        if not self._paused and not self._commands.is_late(self._time):
            self._advance()

    def _advance(self) -> None:
        self._commands.step()
        self._steps += 1
        now = self._time
        self._clock_publisher.publish(ClockMessage(clock=to_time(now)))
        self._pose.publish(to_pose_stamped(self._simulation.pose(), now, BASE_FRAME))
        state = JointState(name=["gripper"], position=[self._simulation.gripper()])
        state.header.stamp = to_time(now)
        self._gripper.publish(state)
        joints = JointState(name=ARM_JOINTS, position=self._simulation.joints())
        joints.header.stamp = state.header.stamp
        self._joints.publish(joints)
        if self._steps % self._frames_every == 0:
            for view, image in self._simulation.render().items():
                self._images[view].publish(to_image(image, now, view))
            cup = to_pose_stamped(self._simulation.cup_pose(), now, BASE_FRAME)
            self._cup.publish(cup)
            self._success.publish(Bool(data=self._simulation.success()))

    def _on_reset(self, request: Any, response: Any) -> Any:
        try:
            trial = scenario(request.scenario).trial(request.trial, request.seed)
            disturbance = None if request.without_disturbance else trial.disturbance
            self._simulation.reset(trial.placement, disturbance, trial.seed, start=trial.start)
        except AltError as error:
            response.success, response.message = False, str(error)
            return response
        self._offset += RESET_GAP
        self._commands.rest(self._time)
        response.success, response.message = True, f"{request.scenario} trial {request.trial}"
        response.cup = to_pose(self._simulation.cup_pose())
        response.nearest_demonstration = trial.nearest
        return response

    def _on_disturbance(self, request: Any, response: Any) -> Any:
        try:
            disturbance = None
            if request.scenario:
                disturbance = scenario(request.scenario).trial(request.trial).disturbance
            self._simulation.disturb(disturbance)
        except AltError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, request.scenario or "undisturbed"
        return response

    def _on_pause(self, request: Any, response: Any) -> Any:
        self._paused = request.data
        response.success, response.message = True, "paused" if request.data else "running"
        return response

    def _on_step(self, request: Any, response: Any) -> Any:
        if not self._paused or not self.is_active:
            response.success, response.message = False, "step needs a paused, active simulation"
            return response
        until = self._time + nanoseconds(request.duration)
        while self._time < until:
            self._advance()
        response.success, response.message = True, f"at {self._time / 1e9:.3f} s"
        return response


def main() -> int:
    """Run the node."""
    return run(SimBridge)


if __name__ == "__main__":
    sys.exit(main())
