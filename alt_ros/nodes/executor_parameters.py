"""The executor node's parameters: the limits of the arm and the receding horizon."""

from __future__ import annotations

from dataclasses import dataclass

from alt_ros.execution import Executor
from alt_ros.nodes.parameters import parameter
from alt_ros.receding_horizon import BLENDINGS, HorizonConfig
from alt_ros.safety import AfterOod, SafetyLimits

_LIMITS = SafetyLimits()


@dataclass(frozen=True)
class ExecutorParameters:
    """Parameters of executor."""

    output: str = parameter(
        "pose",
        "What the arm controller takes: PoseStamped on target_pose, TwistStamped on target_twist, "
        "JointTrajectory on joint_trajectory",
        choices=("pose", "twist", "joint_trajectory"),
    )
    control_rate: float = parameter(100.0, "Commands a second", unit="Hz", low=10.0, high=1000.0)
    realtime_priority: int = parameter(
        40, "SCHED_FIFO priority asked for, and memory locked; 0 asks for nothing", low=0, high=98
    )
    controller: str = parameter(
        "", "Node that must listen to the commands; empty takes any listener for it"
    )
    action_horizon: int = parameter(
        8, "Ta: actions executed before a newer chunk takes over", low=1, high=1000
    )
    blending: str = parameter("offset", "Rule at a chunk's take-over", choices=BLENDINGS)
    fade: float = parameter(
        0.3, "Time over which a chunk's take-over is blended", unit="s", low=0.0, high=2.0
    )
    arm_latency: float = parameter(
        0.0, "How far ahead a pose is sent: the arm's own delay", unit="s", low=0.0, high=1.0
    )
    gripper_latency: float = parameter(
        0.0, "How far ahead an opening is sent", unit="s", low=0.0, high=1.0
    )
    max_chunk_age: float = parameter(
        0.5, "Oldest observation that a chunk may answer", unit="s", low=0.01, high=10.0
    )
    after_ood: str = parameter(
        AfterOod.STOP.value,
        "After the out-of-distribution flag: hold until armed anew, hold while it is up, return "
        "along the recalled demonstration and hold, or follow alt/fallback_chunk while it is up",
        choices=tuple(choice.value for choice in AfterOod),
    )
    require_monitor: bool = parameter(
        True, "Send nothing without decisions of the out-of-distribution monitor"
    )
    gripper_joint: str = parameter("", "Joint with the opening; empty takes the only one")
    workspace_low: tuple[float, ...] = parameter(
        _LIMITS.workspace_low, "Lower corner of the commanded positions", unit="m"
    )
    workspace_high: tuple[float, ...] = parameter(
        _LIMITS.workspace_high, "Upper corner of the commanded positions", unit="m"
    )
    linear_speed: float = parameter(
        _LIMITS.linear_speed, "Largest commanded speed", unit="m/s", low=0.001, high=2.0
    )
    angular_speed: float = parameter(
        _LIMITS.angular_speed, "Largest commanded turn rate", unit="rad/s", low=0.001, high=10.0
    )
    linear_acceleration: float = parameter(
        _LIMITS.linear_acceleration,
        "Largest commanded acceleration",
        unit="m/s^2",
        low=0.01,
        high=50.0,
    )
    angular_acceleration: float = parameter(
        _LIMITS.angular_acceleration,
        "Largest commanded angular acceleration",
        unit="rad/s^2",
        low=0.01,
        high=200.0,
    )
    target_distance: float = parameter(
        _LIMITS.target_distance,
        "A target further from the last command is not followed",
        unit="m",
        low=0.001,
        high=2.0,
    )
    tracking_distance: float = parameter(
        _LIMITS.tracking_distance,
        "An arm further from its command is a fault",
        unit="m",
        low=0.001,
        high=2.0,
    )
    tracking_angle: float = parameter(
        _LIMITS.tracking_angle,
        "An arm turned further from its command is a fault",
        unit="rad",
        low=0.001,
        high=3.2,
    )
    lag_timeout: float = parameter(
        _LIMITS.lag_timeout / 1e9,
        "By how much an arm may be late",
        unit="s",
        low=0.01,
        high=10.0,
    )
    lag_distance: float = parameter(
        _LIMITS.lag_distance,
        "An arm further from all commands within lag_timeout is a fault",
        unit="m",
        low=0.001,
        high=2.0,
    )
    lag_angle: float = parameter(
        _LIMITS.lag_angle,
        "An arm turned further from all commands within lag_timeout is a fault",
        unit="rad",
        low=0.001,
        high=3.2,
    )
    gripper_low: float = parameter(
        _LIMITS.gripper_low, "Smallest opening", unit="m", low=-1.0, high=1.0
    )
    gripper_high: float = parameter(
        _LIMITS.gripper_high, "Largest opening", unit="m", low=-1.0, high=1.0
    )
    gripper_speed: float = parameter(
        _LIMITS.gripper_speed, "Largest speed of the opening", unit="m/s", low=0.001, high=2.0
    )
    observation_timeout: float = parameter(
        _LIMITS.observation_timeout / 1e9,
        "Longest time without an observation",
        unit="s",
        low=0.01,
        high=10.0,
    )
    policy_timeout: float = parameter(
        _LIMITS.policy_timeout / 1e9,
        "Longest time without a chunk, and without a decision of the monitor",
        unit="s",
        low=0.01,
        high=10.0,
    )
    pose_timeout: float = parameter(
        _LIMITS.pose_timeout / 1e9,
        "Longest time without a measured pose",
        unit="s",
        low=0.01,
        high=10.0,
    )
    hold_timeout: float = parameter(
        _LIMITS.hold_timeout / 1e9,
        "A hold or an arming that lasts longer ends in 'stopped'",
        unit="s",
        low=0.1,
        high=3600.0,
    )
    twist_gain: float = parameter(
        2.0,
        "Of output twist: correction per distance from the commanded pose",
        unit="1/s",
        low=0.0,
        high=20.0,
    )
    inverse_kinematics: str = parameter(
        "", "Of output joint_trajectory: 'module:function', see alt_ros/joint_space.py"
    )
    joint_names: tuple[str, ...] = parameter(
        (), "Of output joint_trajectory: in the order of the function's values"
    )
    joint_speed: float = parameter(
        2.0,
        "Of output joint_trajectory: a solution that needs more is a fault",
        unit="rad/s",
        low=0.01,
        high=20.0,
    )

    def executor(self, control_period: int) -> Executor:
        """Return the executor, for a control period in ns."""
        return Executor(
            self.limits(),
            self.horizon(),
            control_period=control_period,
            after_ood=AfterOod(self.after_ood),
            require_monitor=self.require_monitor,
        )

    def limits(self) -> SafetyLimits:
        """Return the limits of the core."""
        return SafetyLimits(
            workspace_low=self.workspace_low,  # type: ignore[arg-type]  # length checked there
            workspace_high=self.workspace_high,  # type: ignore[arg-type]
            **{
                name: round(getattr(self, name) * 1e9)
                for name in (
                    "observation_timeout",
                    "policy_timeout",
                    "pose_timeout",
                    "lag_timeout",
                    "hold_timeout",
                )
            },
            **{
                name: getattr(self, name)
                for name in (
                    "linear_speed",
                    "angular_speed",
                    "linear_acceleration",
                    "angular_acceleration",
                    "target_distance",
                    "tracking_distance",
                    "tracking_angle",
                    "lag_distance",
                    "lag_angle",
                    "gripper_low",
                    "gripper_high",
                    "gripper_speed",
                )
            },
        )

    def horizon(self) -> HorizonConfig:
        """Return the receding horizon's configuration."""
        return HorizonConfig(
            self.action_horizon,
            self.blending,
            round(self.fade * 1e9),
            round(self.arm_latency * 1e9),
            round(self.gripper_latency * 1e9),
            round(self.max_chunk_age * 1e9),
        )
