"""The launch_testing file runs through `launch_test`: test_launch_files.py starts that."""

collect_ignore_glob = ["*.launch.py"]
