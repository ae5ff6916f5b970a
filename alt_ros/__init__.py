"""alt_ros: the Action Lookup Table (ALT) policy, on a real ROS 2 robot and without one.

The rooms, from the ground up; a room imports only rooms named before it:

- ``errors``, ``types``: what goes wrong, what is passed around
- ``progress``, ``report``, ``terminal``: bars, figures as files, what commands say
- ``geometry``, ``preprocessing``, ``messages``, ``transforms``, ``synchronization``: SE(3), image
  to network input, a message's fields as arrays, chains of frames, pairing
- ``bags``: rosbag2 files, damaged ones too: their messages, writing them, when to play them
- ``demonstrations``: recorded episodes, a file per format, and the training store
- ``encoders``: from images to a unit vector
- ``lookup``: the table, its index, retrieval and the out-of-distribution monitor
- ``bundle``: the folder that leaves the training machine
- ``policies``: the contract of a policy, and a file per policy
- ``training``: the ALT encoder, and the policies that are compared with it
- ``receding_horizon``, ``safety``, ``tracking``, ``execution``: which action is due now, what may
  be sent, whether the arm gets there, all together
- ``control_loop``, ``joint_space``: a punctual thread, and commanded poses as joint positions
- ``simulation``: the cup scene, its expert, scenarios and roll-outs
- ``memorisation``: how much of what a policy did was demonstrated
- ``pictures``: what is drawn of episodes, of what was recalled and of the monitor
- ``audit``: a bag through the live code again, and the page of what went wrong
- ``console``: the operator's page, and the server that shows it
- ``nodes``: the only room that knows rclpy and messages
- ``benchmarks``: what ``alt bench`` runs, the nodes included
- ``studies``: what ``alt study`` runs: the papers' tables
- ``diagnosis``, ``demo``: what ``alt doctor`` looks at, what ``alt demo`` goes through
- ``graph_cli``, ``replay_cli``, ``doctor_cli``: the graph's commands for a person at a shell
- ``train_cli``, ``eval_cli``, ``bench_cli``, ``study_cli``, ``audit_cli``, ``cli``: the others

This file stays empty of imports: the generated ROS messages execute it.
"""

__version__ = "0.1.0"
