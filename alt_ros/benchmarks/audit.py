"""How fast a long bag is audited, in how much memory: a run's bag, repeated until it is long."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from alt_ros.audit.bag_audit import audit_bag
from alt_ros.audit.decision_replay import OBSERVATION
from alt_ros.audit.page import Frames, write_page
from alt_ros.bags.contents import BagContents, read_contents
from alt_ros.bags.reading import read_raw
from alt_ros.bundle import Bundle
from alt_ros.errors import DataError
from alt_ros.messages import raw_stamp, with_raw_stamp
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.types import NANOSECONDS

GAP = 3 * NANOSECONDS
"""Between two repetitions, ns: longer than what tells the lookup that a new episode begins."""
PAUSE = 2 * NANOSECONDS
"""Observations further apart are of two episodes, ns."""
HISTORY = NANOSECONDS // 5
"""Of the poses before an episode's first observation, ns."""
WITHOUT_HEADER = frozenset({"std_msgs/msg/Float64", "std_msgs/msg/Bool"})


def repeat_bag(source: Path, target: Path, seconds: float, progress: Advance) -> float:
    """Write a bag that repeats another one, stamps and all, and return its length in seconds.

    Every message is the recorded one, later; its header's stamp is too.

    Args:
        source: A bag of the graph.
        target: Folder to write; MCAP.
        seconds: It is at least so long.
        progress: Called with (repetitions written, of all).

    Raises:
        DataError: The source cannot be read, or holds no time.
    """
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer

    contents = read_contents(source)
    begin = _episode(source, contents)
    length = contents.last - max(begin, contents.first)
    if length <= 0:
        raise DataError(f"bag '{source}' must last for a while, all its messages are of one time")
    times = -(-round(seconds * NANOSECONDS) // (length + GAP))
    with (
        Reader(source) as reader,
        Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {
            c.topic: writer.add_connection(
                c.topic,
                c.msgtype,
                msgdef=c.msgdef.data,
                rihs01=c.digest,
                serialization_format="cdr",
            )
            for c in reader.connections
        }
        for number in range(times):
            shift = number * (length + GAP)
            for topic, kind, at, raw in read_raw(source, connections, begin):
                if kind not in WITHOUT_HEADER:
                    stamp = raw_stamp(raw)
                    if stamp < begin:
                        continue  # an answer to the episode before
                    raw = with_raw_stamp(raw, stamp + shift)
                writer.write(connections[topic], at + shift, raw)
            progress(number + 1, times)
    return (times * (length + GAP) - GAP) / NANOSECONDS


def _episode(source: Path, contents: BagContents) -> int:
    """Return when the last episode begins, ns; 0 where there is no pause."""
    begin = last = 0
    for observation in read_raw(source, contents.topics_of(OBSERVATION)):
        stamp = raw_stamp(observation.data)
        if last and abs(stamp - last) > PAUSE:
            begin = stamp - HISTORY
        last = stamp
    return begin


def measure_audit(
    bag: Path, bundle: Path, folder: Path, *, seconds: float, encoder: bool, progress: Advance
) -> dict[str, Any]:
    """Audit a bag, repeated until it is long, and write its page.

    Args:
        bag: A bag of the graph.
        bundle: The policy's.
        folder: Where the long bag goes; one that is there is taken.
        seconds: Its length.
        encoder: Run the encoder too, and report its share.
        progress: Called with (steps done, of all), first of the repeating, then of the audit.

    Returns:
        The bag's length and the audit's, seconds, their ratio, the encoder's share of the time,
        the peak of this process's resident memory, MB, and what the audit compared.

    Raises:
        DataError: The bag cannot be read.
    """
    long = folder / f"{bag.name}_{seconds:g}_s"
    if not long.exists():
        unfinished = long.with_name(f"{long.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        repeat_bag(bag, unfinished, seconds, progress)
        unfinished.rename(long)
    started = time.perf_counter()
    loaded = Bundle.load(bundle, encoder=encoder, device="cpu", threads=1)
    audit = audit_bag(long, loaded, progress=progress)
    live_t = [(at - audit.first) / NANOSECONDS for at in audit.live.at]
    with tempfile.TemporaryDirectory() as there:
        page = Path(there) / "audit.html"
        write_page(page, audit.values, Frames(live_t, audit.live.pictures, {}))
        page_mb = page.stat().st_size / 1e6
    took, values = time.perf_counter() - started, audit.values
    return {
        "bag_seconds": values["seconds"],
        "audit_seconds": round(took, 2),
        "times_real_time": round(values["seconds"] / took, 3),
        "encoder_share": round(values["encoder_seconds"] / took, 3) if encoder else None,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "page_mb": round(page_mb, 1),
        "parity": values["parity"],
        "findings": len(values["findings"]),
        "machine": machine(),
    }
