import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.types import Observation

EMBED_ELSEWHERE = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.types import Observation
path, spec = Path(sys.argv[1]), EncoderSpec.from_json(json.loads(sys.argv[2]))
rng = np.random.default_rng(0)
images = {v: rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for v in spec.views}
embedding = EncoderRuntime(path, spec, "cpu", threads=1).embed(Observation(0, images))
print(hashlib.sha256(embedding.values.tobytes() + embedding.view_values.tobytes()).hexdigest())
"""


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def observation(seed=0, poses=None):
    rng = np.random.default_rng(seed)
    images = {v: rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for v in ("wrist", "front")}
    return Observation(0, images) if poses is None else Observation(0, images, poses, np.zeros(1))


def test_an_observation_becomes_one_unit_vector(encoder_file, spec):
    runtime = EncoderRuntime(encoder_file, spec, "cpu")
    embedding = runtime.embed(observation())
    assert embedding.values.shape == (24,)
    assert embedding.view_values.shape == (2, 16)
    assert embedding.values.dtype == embedding.view_values.dtype == np.float32
    assert np.linalg.norm(embedding.values) == pytest.approx(1.0, abs=1e-5)
    digest = hashlib.sha256(encoder_file.read_bytes()).hexdigest()
    assert embedding.encoder_id == digest[:16]


def test_a_view_that_shows_nothing_has_no_embedding(encoder_file, spec):
    runtime = EncoderRuntime(encoder_file, spec, "cpu")
    seen = observation()
    rng = np.random.default_rng(0)
    noise = np.abs(rng.normal(0.0, 2.5, (60, 80, 3))).astype(np.uint8)
    slope = np.tile(np.linspace(0.0, 12.0, 80)[None, :, None], (60, 1, 3)).astype(np.uint8)
    for picture, blank in ((noise, True), (noise + 200, True), (slope, False)):
        images = {**seen.images, "front": picture}
        embedding = runtime.embed(Observation(0, images))
        missing = np.isnan(embedding.view_values).all(axis=1)
        assert missing.tolist() == [False, blank]
        assert np.isfinite(embedding.view_values[0]).all()
        assert np.isfinite(embedding.values).all()


def test_the_same_observation_gives_the_same_bits_in_another_runtime_and_process(
    encoder_file, spec
):
    digests = []
    for _ in range(2):
        runtime = EncoderRuntime(encoder_file, spec, "cpu", threads=1)
        runtime.embed(observation(1))
        for _ in range(3):
            embedding = runtime.embed(observation())
            data = embedding.values.tobytes() + embedding.view_values.tobytes()
            digests.append(hashlib.sha256(data).hexdigest())
    arguments = [str(encoder_file), json.dumps(spec.to_json())]
    elsewhere = subprocess.run(
        [sys.executable, "-c", EMBED_ELSEWHERE, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {*digests, elsewhere.stdout.strip()} == {digests[0]}


def test_different_observations_give_different_embeddings(encoder_file, spec):
    runtime = EncoderRuntime(encoder_file, spec, "cpu")
    one, other = (runtime.embed(observation(seed)).values for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_embedding_is_preprocessing_and_forward(encoder_file, spec):
    runtime = EncoderRuntime(encoder_file, spec, "cpu")
    values, views = runtime.forward(runtime.preprocess(observation()))
    embedding = runtime.embed(observation())
    assert values[0].tobytes() == embedding.values.tobytes()
    assert views[0].tobytes() == embedding.view_values.tobytes()


def test_a_missing_view_is_refused_by_name(encoder_file, spec):
    runtime = EncoderRuntime(encoder_file, spec, "cpu")
    lacking = Observation(0, {"wrist": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(DataError, match="lacks \\['front'\\]"):
        runtime.embed(lacking)


@pytest.mark.parametrize(
    "change", [{"embedding_size": 32}, {"view_size": 8}, {"views": ("wrist",), "arms": 1}]
)
def test_a_file_that_does_not_fit_the_spec_is_refused(encoder_file, spec, change):
    other = EncoderSpec.from_json({**spec.to_json(), **change})
    with pytest.raises(BundleError, match="must (give|take)"):
        EncoderRuntime(encoder_file, other, "cpu")


@pytest.mark.parametrize("content", [None, b"", b"not TorchScript"])
def test_a_file_that_is_no_torchscript_is_refused_by_name(tmp_path, spec, content):
    path = tmp_path / "encoder.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"encoder\.pt"):
        EncoderRuntime(path, spec, "cpu")


@pytest.mark.parametrize(
    "arguments", [{"device": "tpu"}, {"device": "cpu", "threads": 0}, {"device": "cuda:77"}]
)
def test_a_device_that_is_not_there_is_refused(encoder_file, spec, arguments):
    if arguments["device"].startswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigurationError, match="encoder"):
        EncoderRuntime(encoder_file, spec, **arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_on_a_gpu_is_close_to_the_cpu(encoder_file, spec):
    cpu = EncoderRuntime(encoder_file, spec, "cpu").embed(observation()).values
    gpu = EncoderRuntime(encoder_file, spec, "cuda").embed(observation()).values
    assert float(cpu @ gpu) > 0.999
