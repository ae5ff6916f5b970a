"""The ROS 2 nodes: shells around the core, and the only room that knows rclpy and messages.

``parameters``, ``node`` and ``conversions`` serve all of them; ``graph`` and ``operator`` start
and drive them from Python where ``launch`` is not installed.
"""
