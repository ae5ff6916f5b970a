import pytest
import torch

from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.encoders.torchscript import export_encoder

SPEC = EncoderSpec(("wrist", "front"), 32, 48, embedding_size=24, view_size=16)


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(scope="session")
def encoder():
    torch.manual_seed(0)
    return MultiViewEncoder(SPEC)


@pytest.fixture(scope="session")
def encoder_file(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "encoder.pt"
    export_encoder(encoder, path)
    return path
