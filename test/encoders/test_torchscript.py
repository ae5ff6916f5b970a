import dataclasses

import pytest
import torch

from alt_ros.encoders.identity import encoder_id
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.torchscript import export_encoder, load_encoder

CPU = torch.device("cpu")


def test_the_file_computes_what_the_network_computes_at_any_batch_size(encoder, encoder_file):
    loaded = load_encoder(encoder_file, CPU)
    for batch in (1, 5):
        images, poses = torch.randn(batch, 2, 3, 32, 48), torch.zeros(batch, 1, 7)
        with torch.inference_mode():
            for _ in range(3):  # TorchScript optimises at its second run
                values, views = loaded(images, poses)
            expected, expected_views = encoder.eval()(images, poses)
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(views, expected_views, rtol=1e-4, atol=1e-5)


def test_exporting_leaves_the_network_as_it_was_and_no_partial_file(encoder, tmp_path):
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    identity = export_encoder(encoder, tmp_path / "encoder.pt")
    assert encoder.training
    assert encoder.channels_last
    assert all(torch.equal(before[name], v) for name, v in encoder.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.pt"]
    assert identity == encoder_id(tmp_path / "encoder.pt")
    assert len(identity) == 16


def test_the_file_can_be_loaded_in_half_precision(encoder_file):
    loaded = load_encoder(encoder_file, CPU, torch.float16)
    images, poses = torch.randn(1, 2, 3, 32, 48).half(), torch.zeros(1, 1, 7).half()
    with torch.inference_mode():
        values, _ = loaded(images, poses)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.norm(dim=-1), torch.ones(1))


@pytest.mark.parametrize("backbone", ["vit_tiny", "clip_tiny"])
def test_a_transformers_file_computes_what_it_computes_at_any_batch_size(tmp_path, spec, backbone):
    own = dataclasses.replace(spec, backbone=backbone)
    torch.manual_seed(0)
    encoder = MultiViewEncoder(own).eval()
    export_encoder(encoder, tmp_path / "encoder.pt")
    runtime = EncoderRuntime(tmp_path / "encoder.pt", own, "cpu")
    for batch in (1, 5):
        inputs = torch.randn(batch, 2, 3, 32, 48), torch.zeros(batch, 1, 7)
        values, views = runtime.forward(inputs)
        again, _ = runtime.forward(inputs)
        with torch.no_grad():
            expected, expected_views = encoder(*inputs)
        torch.testing.assert_close(torch.from_numpy(values), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(views), expected_views, rtol=1e-4, atol=1e-5)
        assert values.tobytes() == again.tobytes()
    half = load_encoder(tmp_path / "encoder.pt", CPU, torch.float16)
    with torch.inference_mode():
        values, _ = half(*(tensor.half() for tensor in inputs))
    assert values.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(values, expected).min() > 0.999
