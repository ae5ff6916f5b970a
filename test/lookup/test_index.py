import struct

import numpy as np
import pytest
from tables import unit

from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.lookup.index import ExactIndex, HnswIndex, build_index

KINDS = [ExactIndex, HnswIndex]


def vectors(count=300, dimension=16, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_come_best_first_with_cosine_similarities(kind):
    held, query = vectors(), vectors(1, seed=1)[0]
    similarities, rows = kind.build(held).query(query, 7)
    expected = held @ query
    assert rows.tolist() == np.argsort(-expected)[:7].tolist()
    np.testing.assert_allclose(similarities, expected[rows], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_similarities_come_in_the_order_of_rows(kind):
    held = np.repeat(vectors(1), 5, axis=0)
    assert kind.build(held).query(held[0], 5)[1].tolist() == [0, 1, 2, 3, 4]


def test_exact_search_breaks_a_tie_at_the_last_place_by_row():
    held = np.repeat(vectors(1), 5, axis=0)
    assert ExactIndex.build(held).query(held[0], 3)[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_more_neighbours_than_rows_gives_every_row(kind):
    held = vectors(4)
    assert sorted(kind.build(held).query(held[0], 99)[1].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_of_another_size_is_refused_with_the_remedy(kind, tmp_path):
    kind.build(vectors()).save(tmp_path / "cup.hnsw")
    index = kind.load(tmp_path / "cup.hnsw", 16) if kind is ExactIndex else kind.build(vectors())
    with pytest.raises(
        DataError, match="embedding has 8 values, the index '.*' holds 16: rebuild"
    ):
        index.query(vectors(1, 8)[0], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_dimension_is_refused_by_name(kind, tmp_path):
    kind.build(vectors()).save(tmp_path / "cup.hnsw")
    with pytest.raises(
        BundleError,
        match="embedding has 256 values, the index 'cup.hnsw' holds 16: "
        "rebuild it with 'alt index build'",
    ):
        kind.load(tmp_path / "cup.hnsw", 256)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_answers_the_same_after_the_disk(kind, tmp_path):
    held = vectors()
    index = kind.build(held)
    index.save(tmp_path / "index")
    read = kind.load(tmp_path / "index", 16)
    if kind is HnswIndex:
        read.ef = index.ef
    for query in vectors(20, seed=3):
        for one, other in zip(index.query(query, 5), read.query(query, 5), strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"short", struct.pack("=6Q", 0, 9, 9, 80, 72, 8)])
def test_a_damaged_file_is_refused(kind, content, tmp_path):
    (tmp_path / "index").write_bytes(content)
    with pytest.raises(BundleError, match="index"):
        kind.load(tmp_path / "index", 16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_refused(kind, tmp_path):
    with pytest.raises(BundleError, match="index"):
        kind.load(tmp_path / "index", 16)


def test_building_twice_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        HnswIndex.build(vectors()).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_built_index_finds_all_of_the_tables_own_embeddings(kind):
    index, report = build_index(kind, vectors(500, 8))
    assert (report.kind, report.rows, report.dimension) == (kind, 500, 8)
    assert report.recall == 1.0
    assert report.ef == index.ef


def test_ef_is_doubled_until_recall_is_whole(monkeypatch):
    monkeypatch.setattr("alt_ros.lookup.index.HNSW_FIRST_EF", 1)
    monkeypatch.setattr("alt_ros.lookup.index.HNSW_NEIGHBOURS", 2)
    monkeypatch.setattr("alt_ros.lookup.index.HNSW_EF_CONSTRUCTION", 4)
    held = vectors(2000, 32)
    index, report = build_index("hnsw", held)
    assert report.ef == index.ef > 1
    assert report.recall == 1.0 or report.ef == len(held)


def test_copies_of_one_frame_count_as_found():
    assert build_index("hnsw", np.repeat(vectors(20), 10, axis=0))[1].recall == 1.0


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigurationError, match="exact, hnsw, got 'faiss'"):
        build_index("faiss", vectors())
