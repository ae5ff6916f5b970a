from dataclasses import replace

import numpy as np
import pytest
import torch

from alt_ros.bundle import Bundle
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.torchscript import export_encoder
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.scores import shipped_scores
from alt_ros.policies.alt import AltPolicy
from alt_ros.training.alt_bundle import build_bundle, embed_episodes


@pytest.fixture(scope="module")
def encoder(spec, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "encoder.pt"
    export_encoder(MultiViewEncoder(spec), path)
    return path


def test_every_frame_of_the_store_recalls_itself_through_the_policy(
    store, spec, encoder, tmp_path
):
    done = []
    bundle = build_bundle(
        store,
        encoder,
        spec,
        tmp_path / "cup",
        calibration=Calibration.given(0.9),
        horizon=3,
        provenance={"seed": 0},
        device="cpu",
        progress=lambda *now: done.append(now),
    )
    assert done[-1] == (32, 32)
    assert bundle.provenance == {"store": "cups", "seed": 0}
    policy = AltPolicy(Bundle.load(bundle.path, device="cpu"))
    for number, demonstration in enumerate(store):
        policy.reset()
        for frame in range(len(demonstration)):
            output = policy.act(demonstration.observation(frame))
            source = output.chunk.source
            assert (source.demonstration, source.frame) == (number, frame)
            assert source.similarity == pytest.approx(1.0, abs=1e-4)
            np.testing.assert_array_equal(
                output.chunk.actions, demonstration.actions[frame : frame + 3]
            )


def test_the_table_is_embedded_without_augmentation(store, spec, encoder, tmp_path):
    tables = [
        build_bundle(
            store, encoder, spec, tmp_path / name, calibration=Calibration.given(0.9), device="cpu"
        ).table
        for name in ("one", "two")
    ]
    assert tables[0].embeddings.tobytes() == tables[1].embeddings.tobytes()


def test_a_held_out_store_calibrates_the_threshold(store, held_out_store, spec, encoder, tmp_path):
    done = []
    bundle = build_bundle(
        store,
        encoder,
        spec,
        tmp_path / "cup",
        calibration_store=held_out_store,
        rate=0.1,
        device="cpu",
        progress=lambda *now: done.append(now),
    )
    calibration = bundle.calibration
    assert (calibration.how, calibration.frames, calibration.episodes) == ("held_out", 32, 4)
    assert (calibration.rate, calibration.per) == (0.1, "episode")
    assert calibration.guarantee == "none, extrapolated"
    assert tuple(calibration.bands) == shipped_scores(bundle.table, spec.views)
    assert done[-1] == (64, 64)
    lookup = bundle.lookup()
    for demonstration in held_out_store:
        for frame in range(len(demonstration)):
            seen = demonstration.observation(frame)
            _, decision = lookup.step(bundle.encoder.embed(seen).query(seen))
            assert not decision.flag


def test_episodes_are_embedded_as_a_policy_embeds_them(held_out_store, spec, encoder):
    runtime = EncoderRuntime(encoder, spec, "cpu")
    episodes = embed_episodes(runtime, held_out_store)
    assert [len(queries) for queries in episodes] == [8] * 4
    seen = held_out_store[2].observation(5)
    alone, batched = runtime.embed(seen).query(seen), episodes[2][5]
    assert batched.stamp == alone.stamp
    np.testing.assert_array_equal(batched.poses, alone.poses)
    np.testing.assert_allclose(batched.embedding, alone.embedding, atol=1e-5)
    np.testing.assert_allclose(batched.view_embeddings, alone.view_embeddings, atol=1e-5)


def test_an_episode_that_failed_or_that_the_table_holds_does_not_calibrate(
    store, spec, encoder, tmp_path
):
    runtime = EncoderRuntime(encoder, spec, "cpu")
    with pytest.raises(DataError, match="'demo 1' failed: leave it out"):
        embed_episodes(runtime, [store[0], replace(store[1], success=False)])
    with pytest.raises(ConfigurationError, match="it holds episode 0: name others"):
        build_bundle(store, encoder, spec, tmp_path / "cup", calibration_store=store, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_without_one_the_threshold_comes_from_leaving_one_out(store, spec, encoder, tmp_path):
    bundle = build_bundle(
        store, encoder, spec, tmp_path / "cup", rate=0.3, index="exact", device="cpu"
    )
    assert bundle.calibration.how == "leave_one_demonstration_out"
    assert bundle.calibration.guarantee == "approximate, leave one out"
    assert bundle.index_report.kind == "exact"


def test_too_low_a_rate_writes_nothing(store, spec, encoder, tmp_path):
    with pytest.raises(ConfigurationError, match="needs at least 999 levels .* got 32"):
        build_bundle(store, encoder, spec, tmp_path / "cup", rate=0.001, per="frame", device="cpu")
    assert list(tmp_path.iterdir()) == []
