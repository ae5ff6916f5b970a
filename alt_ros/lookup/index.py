"""Nearest-neighbour search over the table's embeddings: one interface, two back ends.

``HnswIndex`` is approximate and takes microseconds at a million rows (Malkov and Yashunin 2018,
"Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs"); ``ExactIndex`` compares with every row. Both work on unit vectors: the inner product is
the cosine similarity.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import BundleError, ConfigurationError, DataError

Vectors = NDArray[np.float32]
HNSW_NEIGHBOURS = 16  # M of the paper
HNSW_EF_CONSTRUCTION = 200
HNSW_FIRST_EF = 32
HNSW_SEED = 100
PROBES = 10_000  # embeddings on which recall is measured, at most
TIE = 1e-6  # two float32 similarities closer than this count as the same


class Index(ABC):
    """Searches (T, D) unit vectors.

    Attributes:
        kind: Name of the back end.
        dimension: Values of one vector, D.
    """

    kind: str
    dimension: int

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def ef(self) -> int:
        """Candidates that a search holds: more is slower and finds more; 0 for exact search."""

    @ef.setter
    @abstractmethod
    def ef(self, value: int) -> None: ...

    @classmethod
    @abstractmethod
    def build(cls, embeddings: Vectors) -> Index:
        """Return an index of (T, D) float32 unit vectors."""

    @abstractmethod
    def query(
        self, embedding: Vectors, neighbours: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return similarities (k,) and rows (k,), best first, equals by row; k <= T.

        Raises:
            DataError: The embedding is not of the index's dimension, or k is not positive.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the index to one file; it appears only when it is complete."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path, dimension: int) -> Index:
        """Read an index of the given dimension.

        Raises:
            BundleError: The file is missing, damaged or of another dimension.
        """


@dataclass(frozen=True)
class IndexReport:
    """How an index was built.

    Attributes:
        kind: Name of the back end.
        rows: Number of vectors.
        dimension: Values of one vector.
        ef: Candidates that a search holds; 0 where the search is exact.
        recall: Share of probes whose nearest vector the index finds, ties counted as found.
        probes: Number of the table's own embeddings that recall was measured on.
    """

    kind: str
    rows: int
    dimension: int
    ef: int
    recall: float
    probes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class ExactIndex(Index):
    """Compares with every row; the right choice up to some ten thousand rows."""

    kind = "exact"

    def __init__(self, embeddings: Vectors) -> None:
        self._embeddings = _check_vectors(embeddings)
        self._name = self.kind
        self.dimension = embeddings.shape[1]

    @property
    def ef(self) -> int:
        """Always 0: the search is exact."""
        return 0

    @ef.setter
    def ef(self, value: int) -> None:
        if value != 0:
            raise ConfigurationError(f"index: exact search has no ef, got {value}")

    def __len__(self) -> int:
        return len(self._embeddings)

    @classmethod
    def build(cls, embeddings: Vectors) -> ExactIndex:
        """Return an index of (T, D) float32 unit vectors."""
        return cls(embeddings)

    def query(
        self, embedding: Vectors, neighbours: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """See ``Index.query``."""
        k = _check_query(embedding, neighbours, self.dimension, len(self), self._name)
        similarities = (self._embeddings @ embedding).astype(np.float64)
        if k < len(self):
            # The k-th best value, then all that reach it: ties at the edge are broken by row.
            edge = np.partition(similarities, len(self) - k)[len(self) - k]
            rows = np.flatnonzero(similarities >= edge)
        else:
            rows = np.arange(len(self))
        return _sorted(similarities[rows], rows, k)

    def save(self, path: Path) -> None:
        """See ``Index.save``."""
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.save(file, self._embeddings)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, dimension: int) -> ExactIndex:
        """See ``Index.load``."""
        try:
            embeddings = np.load(path, allow_pickle=False)
            index = cls(embeddings)
        except (OSError, ValueError, EOFError, DataError) as error:
            raise BundleError(f"index '{path}' cannot be read: {error}") from error
        _check_dimension(path.name, dimension, index.dimension)
        index._name = path.name
        return index


class HnswIndex(Index):
    """Approximate search by hnswlib; built and searched in one thread from a fixed seed."""

    kind = "hnsw"

    def __init__(self, index: hnswlib.Index, dimension: int, name: str = "hnsw") -> None:
        self._index = index
        self._index.set_num_threads(1)
        self._name = name
        self.dimension = dimension

    def __len__(self) -> int:
        return int(self._index.get_current_count())

    @property
    def ef(self) -> int:
        """See ``Index.ef``."""
        return int(self._index.ef)

    @ef.setter
    def ef(self, value: int) -> None:
        if value < 1:
            raise ConfigurationError(f"index: ef must be at least 1, got {value}")
        self._index.set_ef(value)

    @classmethod
    def build(cls, embeddings: Vectors) -> HnswIndex:
        """Return an index of (T, D) float32 unit vectors."""
        vectors = _check_vectors(embeddings)
        rows, dimension = vectors.shape
        index = hnswlib.Index(space="ip", dim=dimension)
        index.init_index(
            max_elements=rows,
            M=HNSW_NEIGHBOURS,
            ef_construction=HNSW_EF_CONSTRUCTION,
            random_seed=HNSW_SEED,
        )
        index.add_items(vectors, np.arange(rows), num_threads=1)
        built = cls(index, dimension)
        built.ef = HNSW_FIRST_EF
        return built

    def query(
        self, embedding: Vectors, neighbours: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """See ``Index.query``."""
        k = _check_query(embedding, neighbours, self.dimension, len(self), self._name)
        try:
            rows, distances = self._index.knn_query(embedding[None], k=k, num_threads=1)
        except RuntimeError:  # the graph reaches fewer than k rows with this ef
            raise DataError(
                f"index '{self._name}' finds fewer than {k} neighbours with ef {self.ef}: "
                "ask for fewer or raise ef"
            ) from None
        similarities = 1.0 - distances[0].astype(np.float64)
        return _sorted(similarities, rows[0].astype(np.int64), k)

    def save(self, path: Path) -> None:
        """See ``Index.save``."""
        partial = path.with_name(path.name + ".partial")
        self._index.save_index(str(partial))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, dimension: int) -> HnswIndex:
        """See ``Index.load``."""
        rows, stored = _hnsw_header(path)
        _check_dimension(path.name, dimension, stored)
        index = hnswlib.Index(space="ip", dim=dimension)
        try:
            index.load_index(str(path), max_elements=rows)
        except RuntimeError as error:
            raise BundleError(f"index '{path}' cannot be read: {error}") from error
        return cls(index, dimension, path.name)


INDEX_KINDS: dict[str, type[Index]] = {
    ExactIndex.kind: ExactIndex,
    HnswIndex.kind: HnswIndex,
}


def build_index(kind: str, embeddings: Vectors) -> tuple[Index, IndexReport]:
    """Return an index, and how well it finds the table's own embeddings.

    ``ef`` is doubled until the nearest vector of every probe is found, or all rows are searched.

    Args:
        kind: A key of ``INDEX_KINDS``.
        embeddings: (T, D) float32 unit vectors.

    Raises:
        ConfigurationError: The kind is unknown.
        DataError: The vectors are not (T >= 1, D) float32.
    """
    index = index_type(kind).build(embeddings)
    rows = len(embeddings)
    generator = np.random.default_rng(0)
    chosen = (
        np.arange(rows) if rows <= PROBES else generator.choice(rows, size=PROBES, replace=False)
    )
    recall = _recall(index, embeddings, chosen)
    while recall < 1.0 and 0 < index.ef < rows:
        index.ef = min(2 * index.ef, rows)
        recall = _recall(index, embeddings, chosen)
    report = IndexReport(kind, rows, index.dimension, index.ef, recall, len(chosen))
    return index, report


def index_type(kind: str) -> type[Index]:
    """Return the back end of that name.

    Raises:
        ConfigurationError: The kind is unknown.
    """
    if kind not in INDEX_KINDS:
        raise ConfigurationError(f"index must be one of {', '.join(INDEX_KINDS)}, got '{kind}'")
    return INDEX_KINDS[kind]


def _recall(index: Index, embeddings: Vectors, probes: NDArray[np.int64]) -> float:
    """Return recall@1: a probe is found where its best similarity is that of its own row."""
    hits = 0
    for probe in probes:
        vector = embeddings[probe]
        found = float(embeddings[index.query(vector, 1)[1][0]] @ vector)
        hits += found >= float(vector @ vector) - TIE
    return hits / len(probes)


def _sorted(
    similarities: NDArray[np.float64], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    order = np.lexsort((rows, -similarities))[:k]
    return similarities[order], rows[order].astype(np.int64)


def _check_vectors(embeddings: Vectors) -> Vectors:
    if embeddings.ndim != 2 or embeddings.size == 0 or embeddings.dtype != np.float32:
        raise DataError(
            "index: embeddings must be (T >= 1, D) float32, "
            f"got {embeddings.shape} {embeddings.dtype}"
        )
    return np.ascontiguousarray(embeddings)


def _check_query(embedding: Vectors, k: int, dimension: int, rows: int, name: str) -> int:
    if embedding.ndim != 1 or embedding.shape[0] != dimension:
        raise DataError(_dimension_message(name, embedding.shape[-1], dimension))
    if k < 1:
        raise DataError(f"index: the number of neighbours must be at least 1, got {k}")
    return min(k, rows)


def _check_dimension(name: str, dimension: int, stored: int) -> None:
    if stored != dimension:
        raise BundleError(_dimension_message(name, dimension, stored))


def _dimension_message(name: str, got: int, held: int) -> str:
    return (
        f"embedding has {got} values, the index '{name}' holds {held}: "
        "rebuild it with 'alt index build'"
    )


def _hnsw_header(path: Path) -> tuple[int, int]:
    """Return the number of rows and the dimension that hnswlib wrote; it checks neither itself."""
    # offsetLevel0, max elements, elements, bytes per element, offset of label, offset of data
    header = struct.Struct("=6Q")
    try:
        with path.open("rb") as file:
            _, largest, rows, size, label, data = header.unpack(file.read(header.size))
    except (OSError, struct.error) as error:
        raise BundleError(f"index '{path}' cannot be read: {error}") from error
    if not (rows <= largest and data < label < size and rows * size <= path.stat().st_size):
        raise BundleError(f"index '{path}' is cut off or not written by hnswlib")
    return rows, (label - data) // 4
