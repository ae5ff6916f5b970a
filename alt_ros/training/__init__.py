"""Training and evaluation on a workstation; needs no ROS."""
