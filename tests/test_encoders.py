"""A VAE's encoder as a backbone: it begins with what the run learned, and stays so unless it is tuned."""

import functools
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

import agents
import envs
import rlab
from rlab.datasets import images
from rlab.datasets.frames import frames
from rlab.errors import BadInputError
from rlab.policies import Policy
from rlab.runs.directory import Run
from rlab.tasks import training
from rlab.tasks.configs import VAEConfig
from rlab.tasks.vae import VAETask

PONG = functools.partial(envs.make, "Pong", frame_size=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A VAE of Pong's frames, as it is before its first update."""
    path = tmp_path_factory.mktemp("vae") / "run"
    config = VAEConfig(
        model="cnn",
        data="env:Pong,frame_size=20",
        binarization="none",
        likelihood="gaussian",
        latents=5,
        units=16,
        batch_size=50,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "FRAMES", (64, 32))
        task = VAETask(config)
    assert task.pixels.images["test"].shape == (32, 20, 20)
    made = Run.create(path, training.settings_of(task) | {"steps": 1})
    made.save_checkpoint(training.Learner(task, 1).checkpoint())
    return path


def _spaces():
    env = PONG(num_envs=1, seed=0)
    return env.single_observation_space, env.single_action_space


def _policy(backbone):
    return Policy(*_spaces(), backbone, encoder=rlab.runs.read_encoder(backbone))


def test_frames_are_the_newest_ones_of_random_play():
    shown = frames("Pong,frame_size=20", 40, 0)
    assert shown.shape == (40, 20, 20)
    assert shown.dtype == np.uint8
    assert len(np.unique(shown.reshape(40, -1), axis=0)) > 10
    np.testing.assert_array_equal(shown, frames("Pong,frame_size=20", 40, 0))
    for source, message in (("CartPole-v1", "no images"), ("Pong,frame_size", "name=value"), ("Pongg", "Pong")):
        with pytest.raises(BadInputError, match=message):
            frames(source, 8, 0)


def test_codes_are_those_of_the_run(run):
    policy = _policy(f"vae:{run}")
    theirs = safetensors.numpy.load_file(run / "model" / "weights.safetensors")
    named = policy.named(policy.initial_parameters(3))
    mine = {name.split("encoder/")[1]: part for name, part in named.items() if "encoder/" in name}
    assert {f"encoder/{name}" for name in mine} == {name for name in theirs if name.startswith("encoder/")}
    for name, part in mine.items():
        np.testing.assert_array_equal(part, theirs[f"encoder/{name}"])


@pytest.mark.parametrize("kind", ["vae", "vae-tuned"])
def test_gradients_reach_the_encoder_only_where_it_is_tuned(run, kind):
    policy = _policy(f"{kind}:{run}")
    params = tf.constant(policy.initial_parameters(0))
    observations = tf.constant(PONG(num_envs=2, seed=0).reset()[0])[None]
    with tf.GradientTape() as tape:
        tape.watch(params)
        output, _ = policy.apply(params, observations, (), tf.zeros((1, 2)))
        total = tf.reduce_sum(output.values) + tf.reduce_sum(output.distribution.logits[..., 0])
    gradient = policy.named(tape.gradient(total, params).numpy())
    learned = policy.named(policy.trainable_mask)
    for name, part in gradient.items():
        if "encoder/torso" in name:
            assert part.any() == (kind == "vae-tuned"), name
            assert learned[name].all() == (kind == "vae-tuned"), name
    assert all(part.all() for name, part in learned.items() if "encoder/" not in name)


def test_a_policy_needs_its_vae_no_more_once_it_is_trained(run, tmp_path):
    moved = tmp_path / "vae"
    shutil.copytree(run, moved)
    config = agents.A3C.Config(workers=1, envs_per_worker=2, rollout_length=4)
    agents.A3C(config, PONG, f"vae:{moved}", seed=1).train(tmp_path / "run", 16)
    shutil.rmtree(moved)
    policy = rlab.load_policy(tmp_path / "run")
    observations, _ = PONG(num_envs=2, seed=0).reset()
    actions, _ = policy.act(observations, policy.initial_state(2))
    assert actions.shape == (2,)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("missing", "is not a run"), ("other", "not of `python -m launch vae`"), ("size", "36×36")],
)
def test_a_run_that_is_no_vae_of_these_images_is_refused(run, kind, message, tmp_path):
    path = tmp_path / "run"
    if kind == "other":
        path.mkdir()
        common = {"seed": 0, "steps": 9, "config": {}, "target_score": None, "backbone": "mlp", "env": None}
        (path / "config.json").write_text(json.dumps({"agent": "a3c"} | common))
    if kind == "size":
        shutil.copytree(run, path)
    env = functools.partial(envs.make, "Pong", frame_size=36) if kind == "size" else PONG
    with pytest.raises(BadInputError, match=message):
        agents.A3C(env=env, policy=f"vae:{path}")


def test_a_backbone_from_a_run_takes_images_and_its_encoder(run):
    with pytest.raises(BadInputError, match="takes images"):
        agents.A3C(env="CartPole-v1", policy=f"vae:{run}")
    with pytest.raises(BadInputError, match=r"needs encoder=rlab\.runs\.read_encoder"):
        Policy(*_spaces(), f"vae:{run}")


def test_an_encoder_larger_than_its_weights_is_not_built(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["config"]["units"] = 10**9
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInputError, match="'units' is 1,000,000,000, and the weights hold"):
        rlab.runs.read_encoder(f"vae:{tmp_path / 'run'}")
