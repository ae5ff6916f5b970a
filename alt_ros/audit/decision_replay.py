"""A bag through the code that the live graph runs: synchroniser, encoder, table, monitor.

What is logged is compared with what comes out again. Embeddings, where the bag holds them, say
which observations the encoder took: it takes the newest and leaves out what it has no time for.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alt_ros.audit.parity import Parity
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.rosbag import BagTopics
from alt_ros.errors import DataError
from alt_ros.lookup.lookup import Lookup
from alt_ros.messages import (
    chunk_of,
    decision_of,
    image_of,
    observation_digest,
    observation_of,
    opening_of,
    pose_of,
    query_of,
    stamp_of,
    transforms_of,
)
from alt_ros.synchronization import Match, SynchronizationConfig, Synchronizer
from alt_ros.transforms import TransformChain
from alt_ros.types import ActionChunk, Observation, OodDecision, Query

log = logging.getLogger(__name__)

OBSERVATION = "alt_ros/msg/Observation"
EMBEDDING = "alt_ros/msg/Embedding"
CHUNK = "alt_ros/msg/ActionChunk"
FLAG = "alt_ros/msg/OodFlag"
WAITING = 40
"""Observations kept for an embedding that is logged after them."""


@dataclass(frozen=True)
class Decided:
    """One decision of the policy and its monitor.

    Attributes:
        at: Log time of the embedding, or of the message that completed the observation, ns.
        stamp: Of the observation, ns.
        decision: Flag, score, nearest frame.
        followed: Demonstration and frame that the chunk begins with.
        blank: Views that showed nothing.
    """

    at: int
    stamp: int
    decision: OodDecision
    followed: tuple[int, int]
    blank: tuple[str, ...]


@dataclass(frozen=True)
class Paired:
    """One observation that the synchroniser made; times in ns."""

    at: int
    stamp: int
    skew: int


class DecisionReplay:
    """Takes a bag's messages in log order.

    Args:
        bundle: The policy; with its encoder, unless logged embeddings are to be taken as they are.
        lookup: The bundle's step, with the thresholds of the run.
        topics: The sensors' topics.
        config: How streams are matched.
        embeddings_logged: Whether the bag holds embeddings.
        on_observation: Called with each observation that was made, and its log time, ns.
        on_change: Called with the first that is flagged, shows nothing, or does so no longer.

    Attributes:
        decided: What was decided, in order.
        paired: What was paired, in order.
        synchronizer: Its counters tell what was not used.
        observations, embeddings, decisions, chunks: What is the same as logged.
        encode_seconds: Time that the encoder took, in all.
        other_encoder: Encoder of the bag's embeddings, where it is not the bundle's.
        trouble: The first thing that could not be used, in words; empty without one.
    """

    def __init__(
        self,
        bundle: Bundle,
        lookup: Lookup,
        topics: BagTopics,
        config: SynchronizationConfig,
        *,
        embeddings_logged: bool,
        on_observation: Callable[[Observation, int], None] | None = None,
        on_change: Callable[[Observation, int], None] | None = None,
    ) -> None:
        self.decided: list[Decided] = []
        self.paired: list[Paired] = []
        self.synchronizer: Synchronizer[Any] = Synchronizer(config)
        self.observations = Parity("observations")
        self.embeddings = Parity("embeddings")
        self.decisions = Parity("decisions")
        self.chunks = Parity("chunks")
        self.encode_seconds = 0.0
        self.other_encoder = ""
        self.trouble = ""
        self._bundle = bundle
        self._lookup = lookup
        self._topics = topics
        self._views = {topic: view for view, topic in topics.images.items()}
        self._embeddings_logged = embeddings_logged
        self._on_observation = on_observation
        self._on_change = on_change
        self._made: OrderedDict[int, Observation] = OrderedDict()
        self._asked: deque[tuple[int, Any]] = deque()  # log time and embedding, not yet answered
        self._newest = 0
        self._last_stamp: int | None = None
        self._certain = False
        self._looks: tuple[bool, tuple[str, ...]] = (False, ())
        self._chain: TransformChain | None = None
        if topics.pose_source == "tf":
            self._chain = TransformChain(
                topics.base_frame, topics.eef_frame, config.max_bracket, config.clock_jump
            )

    def sensor(self, topic: str, at: int, message: Any) -> None:
        """Take a message of a sensor's topic.

        Raises:
            DataError: The message cannot be used.
        """
        topics, add = self._topics, self.synchronizer
        matches: list[Match[Any]] = []
        if topic in self._views:
            matches = add.add_frame(self._views[topic], stamp_of(message), message)
        elif topic == topics.gripper:
            opening = opening_of(message, topics.gripper_joint)
            matches = add.add_gripper(stamp_of(message), opening)
        elif self._chain is None:
            matches = add.add_pose(stamp_of(message), pose_of(message.pose))
        else:
            static = topic == topics.tf_static
            for parent, child, stamp, pose in transforms_of(message):
                for when, sample in self._chain.add(parent, child, stamp, pose, is_static=static):
                    matches += add.add_pose(when, sample)
        for match in matches:
            self._observe(match, at)

    def logged(self, kind: str, at: int, message: Any) -> None:
        """Take a message that the live graph published.

        Args:
            kind: ``OBSERVATION``, ``EMBEDDING``, ``FLAG`` or ``CHUNK`` (of the policy alt).
            at: Log time, ns.
            message: The message.

        Raises:
            DataError: The message is damaged.
        """
        stamp = stamp_of(message)
        if kind == OBSERVATION:
            self.observations.log(stamp, at, observation_digest(observation_of(message)))
        elif kind == EMBEDDING:
            if message.encoder_id != self._bundle.encoder_id:
                self.other_encoder = self.other_encoder or str(message.encoder_id)
            self._asked.append((at, message))
            self._answer()
        elif kind == FLAG:
            self.decisions.log(stamp, at, repr(decision_of(message)))
        else:
            self.chunks.log(stamp, at, _chunk_text(chunk_of(message)))

    def finish(self) -> None:
        """Answer what waits for observations that will not come."""
        self._answer(at_end=True)

    def _observe(self, match: Match[Any], at: int) -> None:
        try:
            observation = self.synchronizer.observation(match, image_of)
        except DataError as error:
            self._trouble(str(error))
            return
        self.paired.append(Paired(at, match.stamp, match.skew))
        if self._on_observation is not None:
            self._on_observation(observation, at)
        self.observations.replay(match.stamp, observation_digest(observation))
        self._newest = match.stamp
        if not self._embeddings_logged:
            self._decide(at, self._query(observation), observation)
            return
        self._made[match.stamp] = observation
        if len(self._made) > WAITING:
            self._made.popitem(last=False)
        self._answer()

    def _answer(self, at_end: bool = False) -> None:
        """Decide on every embedding whose observation is there, or will not come."""
        while self._asked:
            at, message = self._asked[0]
            stamp = stamp_of(message)
            observation = self._made.get(stamp)
            waits = not at_end and stamp > self._newest and len(self._asked) < WAITING
            if observation is None and waits and self._bundle.encoder is not None:
                return
            self._asked.popleft()
            query = query_of(message)
            self.embeddings.log(stamp, at, _query_text(query))
            if observation is not None and self._bundle.encoder is not None:
                query = self._query(observation)
                self.embeddings.replay(stamp, _query_text(query))
            self._decide(at, query, observation)

    def _query(self, observation: Observation) -> Query:
        encoder = self._bundle.encoder
        assert encoder is not None
        started = time.perf_counter()
        query = encoder.embed(observation).query(observation)
        self.encode_seconds += time.perf_counter() - started
        return query

    def _decide(self, at: int, query: Query, observation: Observation | None) -> None:
        if self._last_stamp is not None and self._lookup.retrieval.begins_episode(query.stamp):
            self._certain = True  # what came before the bag matters no longer
        self._last_stamp = query.stamp
        try:
            chunk, decision = self._lookup.step(query)
        except DataError as error:
            self._trouble(str(error))
            return
        self.decisions.replay(query.stamp, repr(decision), certain=self._certain)
        self.chunks.replay(query.stamp, _chunk_text(chunk), certain=self._certain)
        source = decision.neighbour if chunk.source is None else chunk.source
        seen = zip(self._bundle.spec.views, query.view_embeddings, strict=True)
        views = tuple(view for view, values in seen if np.isnan(values).any())
        followed = (source.demonstration, source.frame)
        self.decided.append(Decided(at, query.stamp, decision, followed, views))
        before = self._looks
        self._looks = decision.flag, views
        if self._looks != before and observation is not None and self._on_change is not None:
            self._on_change(observation, at)

    def _trouble(self, text: str) -> None:
        if not self.trouble:
            self.trouble = text
            log.warning("%s", text)


def _query_text(query: Query) -> str:
    digest = hashlib.sha256()
    for array in (query.embedding, query.view_embeddings, query.poses):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _chunk_text(chunk: ActionChunk) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(chunk.actions).tobytes())
    return f"{chunk.stamp} {chunk.period} {chunk.layout} {chunk.source!r} {digest.hexdigest()}"
