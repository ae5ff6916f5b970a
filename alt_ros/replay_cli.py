"""``alt replay BAG``: a bag's sensor topics into the live graph, without ``ros2 bag``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from alt_ros.errors import ConfigurationError
from alt_ros.progress import progress_bar
from alt_ros.terminal import Flag, Positional, console, say

CLOCK_RATE = 100.0
INTERRUPTED = 130
Rate = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="[HZ]")]


def replay(
    bag: Positional[Path],
    topics: tuple[str, ...] = (),
    remap: tuple[str, ...] = (),
    rate: float = 1.0,
    start: float = 0.0,
    duration: float | None = None,
    loop: Flag = False,
    clock: Rate = None,
    restamp: bool = True,
    wait_for_subscribers: float = 2.0,
    domain: int | None = None,
) -> None:
    """Publish a bag's sensor topics into the live graph; Ctrl-C stops it.

    Without --clock stamps are shifted to now, and the graph runs as with the robot. With it
    stamps stay as recorded, and the graph's nodes need use_sim_time. What may move a robot is
    left out unless it is named.

    Args:
        bag: Folder or file of a rosbag2, MCAP or SQLite; cut off too.
        topics: Names or patterns ('/wrist/*') of what is published, whatever it is.
        remap: FROM=TO, each.
        rate: Speed, 1 as recorded.
        start: Where to begin, s after the bag's first message.
        duration: How much of it, s.
        loop: Begin anew at the end, after a pause by which the lookup sees a new episode.
        clock: Publish /clock with the bag's time, so often a second: 100 unless told.
        restamp: Without --clock: shift stamps to now.
        wait_for_subscribers: How long every topic's first subscriber is waited for, s.
        domain: Stay on this machine, in this DDS domain.
    """
    from alt_ros.bags.schedule import ReplayOptions, parse_remap
    from alt_ros.nodes import graph as ros_graph

    if clock is not None and len(clock) > 1:
        raise ConfigurationError(f"replay: --clock takes one rate, got {len(clock)}")
    options = ReplayOptions(
        topics=topics,
        remap=parse_remap(remap),
        rate=rate,
        start=start,
        duration=duration or 0.0,
        loop=loop,
        clock=0.0 if clock is None else clock[0] if clock else CLOCK_RATE,
        restamp=restamp,
        wait=wait_for_subscribers,
    )
    os.environ.update(ros_graph.environment(local_domain=domain))  # before DDS looks there
    from alt_ros.nodes.bag_player import replay_bag

    with progress_bar(console, f"replaying {bag.name} (s)") as progress:
        ended = replay_bag(bag, options, say=say, progress=progress)
    say(("stopped: " if ended.interrupted else "") + ended.text)
    if ended.problem:
        say(f"alt: the replay ended before the bag: {ended.problem}")
    if ended.interrupted or ended.problem:
        sys.exit(INTERRUPTED if ended.interrupted else 1)
