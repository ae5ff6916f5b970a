"""rosbag2 files without ROS: what they hold, reading them, damaged ones too, and writing."""
