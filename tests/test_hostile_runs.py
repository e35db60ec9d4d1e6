"""A run from elsewhere: nothing outside it is read or written, and nothing larger than it is made."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT

from rlab.arrays import DIGEST, digest, read_npz, read_weights, to_npz, weights_to_bytes
from rlab.datasets.images import load_images
from rlab.errors import BadInputError, TrainingError, printable
from rlab.files import digest_of, open_to_append, read_file, read_json, require_same_file, write_atomically
from rlab.policies import Policy
from rlab.rewards import demonstrations
from rlab.rewards.demonstrations import Demonstrations
from rlab.runs import checkpoints, lock, policy_files
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.encoders import read_encoder
from rlab.runs.lock import locked, require_unlocked
from rlab.runs.metrics import MetricsWriter, read_metrics
from rlab.runs.policy_files import load_policy, save_architecture
from rlab.runs.weights import load_weights

CONFIG = {"agent": "a3c", "seed": 0, "steps": 100, "backbone": "mlp", "env": None, "config": {}}


def _state(policy, steps=10, seed=0):
    arrays = {f"policy/{name}": part for name, part in policy.named(policy.initial_parameters(seed)).items()}
    return Checkpoint(steps, arrays, {"updates": steps // 5})


@pytest.fixture(scope="module")
def policy():
    return Policy(gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Discrete(2))


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    """A run of ten steps."""
    run = Run.create(tmp_path_factory.mktemp("whole") / "run", CONFIG)
    save_architecture(run.path, policy)
    run.save_checkpoint(_state(policy))
    writer = MetricsWriter(run.path, 0)
    writer.write({"steps": 10, "loss": 1.0}, [])
    writer.close()
    return run.path


@pytest.fixture
def path(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def _go_on(path, policy):
    """All that `resume` writes."""
    run = Run.open(path)
    save_architecture(path, policy)
    with run.training(10, lambda: _state(policy)):
        run.with_steps(200)
        writer = MetricsWriter(path, 10)
        writer.write({"steps": 20, "loss": 1.0}, [])
        writer.close()
        run.save_checkpoint(_state(policy, 20))


PARTS = [
    "config.json",
    "metrics.csv",
    "lock",
    "checkpoints",
    "checkpoints/step-000000000010.safetensors",
    "checkpoints/step-000000000020.safetensors",
    "policy",
    "policy/architecture.json",
    "policy/weights.safetensors",
    "tensorboard",
    "pictures",
    "pictures/samples.png",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["file", "new file", "directory", "pipe"])
def test_no_link_and_no_pipe_in_a_run_is_followed(path, policy, tmp_path, part, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    place = path / part
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.copytree(place, outside / "canary", dirs_exist_ok=True)
        shutil.rmtree(place)
    elif place.exists():
        shutil.copy(place, outside / "canary")
        place.unlink()
    else:
        (outside / "canary").write_text("{}")
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(outside / {"file": "canary", "new file": "new", "directory": ""}[kind])
    before = {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    for act in (Run.open, load_policy, read_metrics, lambda path: _go_on(path, policy)):
        with pytest.raises(BadInputError, match=r"a link|a pipe"):
            act(path)
    assert {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()} == before


def test_links_under_the_names_of_temporary_files_are_not_written_through(path, policy, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("alive")
    for place in [file for file in path.rglob("*") if file.is_file()]:
        place.with_name(f".{place.name}.tmp").symlink_to(canary)
    (path / "checkpoints" / ".step-000000000020.safetensors.tmp").symlink_to(canary)
    with pytest.raises(BadInputError, match="a link"):
        _go_on(path, policy)
    run = Run(path, CONFIG)  # nor would it be, were it not refused
    run.save_checkpoint(_state(policy, 20))
    run.with_steps(300)
    assert canary.read_text() == "alive"
    assert run.latest_checkpoint().steps == 20


def test_temporary_files_left_by_kills_are_removed(path, policy):
    for place in (path, path / "checkpoints", path / "policy"):
        (place / ".half.0123456789abcdef.tmp").write_text("half")
    _go_on(path, policy)
    assert [row["steps"] for row in read_metrics(path)] == [10, 20]
    assert not list(path.rglob(".*.tmp"))


def test_a_hard_link_is_not_appended_to(tmp_path):
    (tmp_path / "canary").write_text("alive")
    os.link(tmp_path / "canary", tmp_path / "metrics.csv")
    with pytest.raises(BadInputError, match="hard link"):
        open_to_append(tmp_path / "metrics.csv")
    MetricsWriter(tmp_path, 0).close()  # which begins a file of its own
    with pytest.raises(BadInputError, match="hard link"), locked(_linked(tmp_path)):
        pass
    assert (tmp_path / "canary").read_text() == "alive"


def _linked(path):
    os.link(path / "canary", path / "lock")
    return path


def test_a_run_may_itself_lie_behind_a_link(path, policy, tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path)
    _go_on(tmp_path / "runs" / "run", policy)
    assert load_policy(tmp_path / "runs" / "run").policy.backbone == "mlp"


def test_temporary_names_are_not_known_beforehand(tmp_path, monkeypatch):
    seen, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *mode: seen.append((path, flags)) or real(path, flags, *mode))
    for _ in range(2):
        write_atomically(tmp_path / "file", b"content")
    (one, flags), (two, _) = [found for found in seen if found[1] & os.O_CREAT]
    assert one != two
    assert flags & os.O_EXCL
    assert flags & os.O_NOFOLLOW


# Digests.


def test_no_flipped_bit_of_the_weights_goes_unnoticed(path, policy):
    file = path / "policy" / "weights.safetensors"
    content, right = file.read_bytes(), load_policy(path).parameters
    places = np.random.default_rng(0).integers(0, len(content), 300).tolist() + list(range(400))
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            found = policy.flatten(load_weights(path, "policy", policy.size))
        except BadInputError:
            continue
        np.testing.assert_array_equal(found, right)
    file.write_bytes(content)


def test_a_digest_cannot_be_taken_away(path):
    file = path / "policy" / "architecture.json"
    file.write_text(file.read_text().replace(f'"{DIGEST}"', '"other"'))
    with pytest.raises(BadInputError, match="its digest differs"):
        load_policy(path)


def test_the_architecture_has_a_digest_too(path):
    file = path / "policy" / "architecture.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data))  # laid out otherwise
    load_policy(path)
    for change in ({"observation_scale": 2.0}, {"observe_actions": True}, {"new": 1}):
        file.write_text(json.dumps(data | change))
        with pytest.raises(BadInputError, match=r"architecture\.json is damaged: its digest differs"):
            load_policy(path)


def test_a_policy_takes_no_seed_that_is_none(path):
    with pytest.raises(BadInputError, match="a seed must be a whole number, at least 0, not 'x'"):
        load_policy(path, seed="x")


def test_a_policy_of_version_01_loads_with_a_note(path, policy, capsys):
    file = path / "policy" / "architecture.json"
    new = (DIGEST, "reading", "scale_actions", "deterministic")
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in new}))
    weights = policy.named(policy.initial_parameters(0))
    (path / "policy" / "weights.safetensors").write_bytes(safetensors.numpy.save(weights))
    np.testing.assert_array_equal(load_policy(path).parameters, policy.initial_parameters(0))
    assert "has no digest" in capsys.readouterr().err
    shutil.rmtree(path / "checkpoints")
    load_policy(path)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, wrong):
    (tmp_path / "w").write_bytes(weights_to_bytes({"w": np.float32([1.0, wrong])}, 3))
    with pytest.raises(BadInputError, match="'w' holds what is no finite"):
        read_weights(tmp_path / "w")


def _shown():
    return Demonstrations(np.ones((4, 3), np.float32), np.zeros(4, np.int64), np.zeros(4, np.int32), np.ones(1))


def test_demonstrations_have_a_digest(tmp_path, capsys):
    file = tmp_path / "shown.npz"
    file.write_bytes(demonstrations.save(_shown()))
    np.testing.assert_array_equal(demonstrations.load(file).observations, _shown().observations)
    assert capsys.readouterr().err == ""
    arrays = _shown()._asdict()
    np.savez_compressed(file, **arrays)
    demonstrations.load(file)
    assert "has no digest" in capsys.readouterr().err
    np.savez_compressed(file, **arrays | {"actions": np.ones(4, np.int64), DIGEST: np.array(digest(arrays))})
    with pytest.raises(BadInputError, match="its digest differs"):
        demonstrations.load(file)


def test_a_data_file_that_changed_is_noticed(tmp_path):
    (tmp_path / "data").write_bytes(b"one")
    known = digest_of(tmp_path / "data")
    require_same_file(tmp_path / "data", known)
    require_same_file(tmp_path / "data", "")
    (tmp_path / "data").write_bytes(b"two")
    with pytest.raises(BadInputError, match="another file than the run began with"):
        require_same_file(tmp_path / "data", known)


# Sizes.


def _bomb(path, header_shape=None):
    """x_train of four gigabytes of zeros, as its header has it, in a file of a few bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 64, 64)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            member.write(buffer.getvalue())
            for _ in range(16 if header_shape is None else 1):
                member.write(bytes(1 << 26))
        for name in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", b"")


@pytest.mark.parametrize(("lie", "said"), [(None, "would unpack to"), ("header", "does not hold the")])
def test_an_archive_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path, lie, said):
    import tracemalloc

    _bomb(tmp_path / "bomb.npz", lie)
    tracemalloc.start()
    with pytest.raises(BadInputError, match=said):
        load_images(str(tmp_path / "bomb.npz"))
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.parametrize("array", [np.array([{}]), np.zeros(2, "f4,i4")])
def test_objects_are_not_unpickled(tmp_path, array):
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(BadInputError, match="no array of numbers"):
        read_npz(tmp_path / "a.npz", ["x"])


def test_a_digest_knows_names_shapes_and_kinds():
    x = np.arange(6, dtype=np.float32)
    others = ({"b": x}, {"a": x.reshape(2, 3)}, {"a": x.view(np.int32)}, {"a": x[::-1]})
    assert len({digest(arrays) for arrays in ({"a": x}, *others)}) == 5
    assert digest({"a": x, "b": x}) == digest({"b": x, "a": x})


@pytest.mark.parametrize(
    "array", [np.zeros((0, 3)), np.array(3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array("text")]
)
def test_arrays_come_back_as_they_were(tmp_path, array):
    (tmp_path / "a.npz").write_bytes(to_npz({"x": array}))
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["x"], digested=True)["x"], array)


@pytest.mark.parametrize(
    "change",
    [
        {"observation_space": {"type": "Box", "low": 0.0, "high": 1.0, "shape": [10**9], "dtype": "float32"}},
        {"observation_space": {"type": "Discrete", "n": 10**9, "start": 0}},
        {"action_space": {"type": "MultiDiscrete", "nvec": [10**9, 2], "start": [0, 0]}},
        {"encoder": {"model": "mlp", "latents": 2, "units": 10**9, "depth": 1}, "backbone": "vae:/nowhere"},
    ],
)
def test_no_policy_is_built_that_is_larger_than_its_weights(path, change):
    file = path / "policy" / "architecture.json"
    data = {key: value for key, value in json.loads(file.read_text()).items() if key != DIGEST} | change
    file.write_text(json.dumps(data | {DIGEST: policy_files.digest(data)}))
    with pytest.raises(BadInputError, match="numbers, of which the weights hold"):
        load_policy(path)


def test_files_of_gigabytes_are_not_read(path):
    for part in ("config.json", "policy/architecture.json", "policy/weights.safetensors", "metrics.csv"):
        with (path / part).open("r+b") as file:
            file.truncate(1 << 40)
    for act in (lambda: Run.open(path), lambda: load_policy(path), lambda: read_metrics(path)):
        with pytest.raises(BadInputError, match="too large"):
            act()


def test_json_that_nests_without_end_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(BadInputError, match="damaged"):
        read_json(tmp_path / "config.json")


def test_an_encoder_is_read_like_any_run(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(BadInputError, match="a pipe"):
        read_encoder(f"vae:{tmp_path}")


# What is said.


def test_control_characters_of_a_file_are_shown_and_not_obeyed(path):
    (path / "config.json").write_text(json.dumps(CONFIG | {"backbone": "x", "agent": "\x1b]0;owned\x07\u202e"}))
    message = str(BadInputError(f"{path} is a run of {Run.open(path).config['agent']}"))
    assert "\\x1b]0;owned\\x07\\u202e" in message
    assert message.isprintable()
    assert printable("plain, with ümläuts\nand lines") == "plain, with ümläuts\nand lines"
    assert str(TrainingError("\x9b2J")) == "\\x9b2J"


# Two processes.

_HOLD = """
import sys, time
from pathlib import Path
from rlab.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_trains_a_run(path, policy):
    command = [sys.executable, "-c", _HOLD, path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        owner = json.loads((path / "lock").read_text())
        assert owner["pid"] == holder.pid
        with pytest.raises(BadInputError, match=f"is being trained by process {holder.pid} on {owner['host']}"):
            _go_on(path, policy)
        load_policy(path)  # which only reads
        holder.kill()
        holder.wait()
        assert (path / "lock").exists()
    _go_on(path, policy)  # its owner is gone
    assert not (path / "lock").exists()


def test_a_lock_of_another_machine_is_heeded_until_it_falls_silent(path):
    owner = {"host": "elsewhere", "pid": 7, "started": "1", "job": "", "since": "today"}
    (path / "lock").write_text(json.dumps(owner))
    with pytest.raises(BadInputError, match=r"process 7 on elsewhere since today.*delete .*lock"):
        require_unlocked(path)
    os.utime(path / "lock", (time.time() - 1000,) * 2)
    with locked(path):
        pass


def test_a_lock_is_touched_as_long_as_it_is_held(path, monkeypatch):
    """Other machines know by that that its owner lives."""
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with locked(path):
        os.utime(path / "lock", (1.0, 1.0))
        end = time.monotonic() + 10.0
        while (path / "lock").stat().st_mtime == 1.0 and time.monotonic() < end:
            time.sleep(0.01)
        assert (path / "lock").stat().st_mtime > 1.0


@pytest.mark.parametrize("later", [False, True])
def test_the_lock_file_is_the_lock_if_the_kernel_knows_none(path, monkeypatch, later):
    """The lock holds as long as its process lives; a later process of the same number is another."""
    monkeypatch.setattr(lock, "fcntl", None)
    parent = os.getppid()
    owner = lock.present()._asdict() | {"pid": parent, "started": lock.started_at(parent) + ("0" if later else "")}
    (path / "lock").write_text(json.dumps(owner))
    with contextlib.nullcontext() if later else pytest.raises(BadInputError, match=f"by process {parent} on"):
        require_unlocked(path)


def test_a_lock_that_another_has_taken_over_stays(path):
    with locked(path):
        (path / "lock").unlink()
        (path / "lock").write_text("another's")
    assert (path / "lock").read_text() == "another's"


@pytest.mark.parametrize("content", ["", "{", '{"host": 3}', "[" * 9999])
def test_a_damaged_lock_locks_nothing(path, content):
    (path / "lock").write_text(content)
    with locked(path), pytest.raises(BadInputError, match="is being trained by process"), locked(path):
        pass
    assert not (path / "lock").exists()


def test_directories_of_runs_begun_at_once_are_different(tmp_path):
    from launch.flags import reserve

    found = []
    threads = [threading.Thread(target=lambda: found.append(reserve(tmp_path / "runs" / "a3c"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_a_run_that_another_process_trained_meanwhile_is_not_gone_on_with(path, policy):
    run = Run.open(path)
    run.save_checkpoint(_state(policy, 20))
    with pytest.raises(BadInputError, match="trained by another"), run.training(10, lambda: _state(policy)):
        pass


# What a kill, or a disk, leaves.


def test_weights_that_are_older_than_the_checkpoint_give_way_to_it(path, policy):
    run = Run.open(path)
    checkpoints.save(run.checkpoints, _state(policy, 20, seed=5), 3)  # and killed before the weights
    np.testing.assert_array_equal(load_policy(path).parameters, policy.initial_parameters(5))
    with run.training(20, lambda: _state(policy, 20, seed=5)):
        assert read_weights(path / "policy" / "weights.safetensors").steps == 20
    (path / "policy" / "weights.safetensors").unlink()
    np.testing.assert_array_equal(load_policy(path).parameters, policy.initial_parameters(5))


def test_a_run_that_lost_its_checkpoints_does_not_begin_again_over_its_weights(path, policy):
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(BadInputError, match="has lost its checkpoints"):
        Run.open(path).latest_checkpoint()
    np.testing.assert_array_equal(load_policy(path).parameters, policy.initial_parameters(0))


def test_a_state_that_is_not_finite_is_never_the_newest(path, policy):
    run, before = Run.open(path), sorted(path.rglob("*.safetensors"))
    state = _state(policy, 20)
    bad = state._replace(arrays=state.arrays | {"adam/mean": np.float32([1.0, np.nan])})
    with pytest.raises(TrainingError, match="'adam/mean' is not finite"):
        run.save_checkpoint(bad)
    assert sorted(path.rglob("*.safetensors")) == before
    run.save_checkpoint(state._replace(arrays=state.arrays | {"collector/environment/bound": np.float32([np.inf])}))


def test_a_full_disk_keeps_the_last_checkpoint(path, policy, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    run = Run.open(path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run.save_checkpoint(_state(policy, 20))
    assert run.latest_checkpoint().steps == 10
    assert not list(path.rglob(".*.tmp"))


@pytest.mark.parametrize(
    ("line", "why"),
    [(b"15,\xff\n", "bytes"), (b"15\n", "cells"), (b"15,x\n", "words"), (b"x,1\n", "steps"), (b"\n", "empty")],
)
def test_a_damaged_row_is_set_aside_and_the_good_ones_stay(path, line, why, capsys):
    file = path / "metrics.csv"
    damaged = file.read_bytes() + line + b"18,0.5\n"
    file.write_bytes(damaged)
    with pytest.raises(BadInputError, match="line 3 is no row of 2 numbers"):
        read_metrics(path)
    writer = MetricsWriter(path, 30)
    writer.write({"steps": 40, "loss": 1.0}, [])
    writer.close()
    assert [row["steps"] for row in read_metrics(path)] == [10, 18, 40]
    assert (path / "metrics-damaged-1.csv").read_bytes() == damaged
    assert "it is kept as metrics-damaged-1.csv, and its 2 good rows stay" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\x00\xff\n1,2\n", b"loss,steps\n1,2\n", b"steps,steps\n1,2\n"])
def test_metrics_without_their_columns_are_set_aside(path, content, capsys):
    (path / "metrics.csv").write_bytes(content)
    MetricsWriter(path, 30).close()
    assert (path / "metrics-damaged-1.csv").read_bytes() == content
    assert "kept as" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_directory_is_named(path, policy):
    shutil.rmtree(path / "policy")
    (path / "policy").write_text("")
    with pytest.raises(BadInputError, match="policy is no directory; move it away"):
        _go_on(path, policy)


def test_a_file_in_the_place_of_tensorboard_does_not_block(path, capsys):
    shutil.rmtree(path / "tensorboard")
    (path / "tensorboard").write_text("x")
    MetricsWriter(path, 30).close()
    assert (path / "tensorboard").is_dir()
    assert "tensorboard-damaged-1" in capsys.readouterr().err


def test_columns_may_begin_later(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write({"steps": 1, "loss": 0.5}, [])
    writer.write({"steps": 2, "success": 1.0}, [])
    writer.write({"steps": 3, "loss": 0.25, "success": 0.0}, [])
    writer.close()
    assert (tmp_path / "metrics.csv").read_text() == "steps,loss,success\n1,0.5,\n2,,1\n3,0.25,0\n"


def test_a_file_is_read_only_where_it_is_one(tmp_path):
    for make, said in ((os.mkfifo, "a pipe"), (os.mkdir, "a directory")):
        make(tmp_path / said)
        with pytest.raises(BadInputError, match=said):
            read_file(tmp_path / said)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("x")
    assert read_file(tmp_path / "file") == b"x"
    with pytest.raises(BadInputError, match="links inside a run are not followed"):
        read_file(tmp_path / "link")


def test_a_checkpoint_that_was_lengthened_is_refused_before_it_is_read(path):
    import tracemalloc

    file = path / "checkpoints" / "step-000000000010.safetensors"
    with file.open("r+b") as opened:
        opened.truncate(1 << 31)
    tracemalloc.start()
    with pytest.raises(BadInputError, match="its header describes"):
        Run.open(path).latest_checkpoint()
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
