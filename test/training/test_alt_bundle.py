import numpy as np
import pytest
import torch

from alt_ros.bundle import Bundle
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.torchscript import export_encoder
from alt_ros.errors import ConfigurationError
from alt_ros.lookup.calibration import Calibration
from alt_ros.policies.alt import AltPolicy
from alt_ros.training.alt_bundle import build_bundle


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
        calibration=Calibration(0.9),
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
            store, encoder, spec, tmp_path / name, calibration=Calibration(0.9), device="cpu"
        ).table
        for name in ("one", "two")
    ]
    assert tables[0].embeddings.tobytes() == tables[1].embeddings.tobytes()


def test_a_held_out_store_calibrates_the_threshold(store, held_out_store, spec, encoder, tmp_path):
    bundle = build_bundle(
        store,
        encoder,
        spec,
        tmp_path / "cup",
        calibration_store=held_out_store,
        false_alarm_rate=0.1,
        device="cpu",
    )
    calibration = bundle.calibration
    assert (calibration.how, calibration.frames, calibration.demonstrations) == ("held_out", 32, 4)
    assert bundle.monitor.threshold == calibration.threshold < 1.0


def test_without_one_the_threshold_comes_from_leaving_one_out(store, spec, encoder, tmp_path):
    bundle = build_bundle(
        store, encoder, spec, tmp_path / "cup", false_alarm_rate=0.1, index="exact", device="cpu"
    )
    assert bundle.calibration.how == "leave_one_demonstration_out"
    assert bundle.index_report.kind == "exact"


def test_too_low_a_rate_writes_nothing(store, spec, encoder, tmp_path):
    with pytest.raises(
        ConfigurationError, match="2 views, needs at least 2999 held-out frames, got 32"
    ):
        build_bundle(store, encoder, spec, tmp_path / "cup", false_alarm_rate=0.001, device="cpu")
    assert list(tmp_path.iterdir()) == []
