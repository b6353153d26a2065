"""Replay files: what is read is what was written, and nothing that could run code is read."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from gymnasium import spaces

from adaptive_scan.agents import EpisodeReplayBuffer
from adaptive_scan.agents.replay import FieldSpec
from adaptive_scan.agents.replay_files import ReplayFileError
from adaptive_scan.trees import write_tree

SPACE = spaces.Dict({"picture": spaces.Box(0, 255, (2, 2), np.uint8), "place": spaces.Box(-1, 1, (3,))})


def make(n_capacity=6, *, n_envs=2, seed=0, priority_exponent=0.8, **settings):
    return EpisodeReplayBuffer(
        n_capacity * 5,
        SPACE,
        spaces.Box(-1, 1, (2,)),
        "cpu",
        n_envs,
        max_episode_steps=5,
        fields={"tag": FieldSpec((2,), "int16")},
        priority_exponent=priority_exponent,
        seed=seed,
        **settings,
    )


def fill(buffer, n_steps, rng):
    for _ in range(n_steps):
        obs, after = (
            {
                "picture": rng.integers(0, 256, (2, 2, 2)).astype(np.uint8),
                "place": rng.uniform(-1, 1, (2, 3)).astype(np.float32),
            }
            for _ in range(2)
        )
        done = (rng.random(2) < 0.3) | (buffer._open_steps == 4)
        infos = [{"TimeLimit.truncated": bool(rng.random() < 0.5), "tag": rng.integers(99, size=2)} for _ in range(2)]
        buffer.add(obs, after, rng.uniform(-1, 1, (2, 2)), rng.normal(size=2), done, infos)


@pytest.fixture
def buffer(rng):
    buffer = make(n_slice_steps=3, n_burn_in=2)
    fill(buffer, 40, rng)
    batch = buffer.sample(9)
    buffer.update_priorities(batch.indices, batch.rewards, batch.mask)
    return buffer


@pytest.fixture
def path(buffer, tmp_path):
    buffer.save(tmp_path / "replay.npz")
    return tmp_path / "replay.npz"


def rewrite(path, target, **changes):
    """Copy of an archive with arrays replaced, added, or, where None, left out."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(target, **{name: values for name, values in arrays.items() if values is not None})
    return target


def small(path, **changes):
    """The JSON entry with changes."""
    with np.load(path) as archive:
        return np.array(json.dumps(json.loads(archive["state"].item()) | changes))


def assert_refused(path, message, like=None):
    other = make(n_slice_steps=3, n_burn_in=2) if like is None else like
    with pytest.raises(ReplayFileError, match=message) as caught:
        other.load(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: got ")
    assert (other.n_episodes, other._open_steps.tolist()) == (0, [0] * other.n_envs)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_loaded_buffer_goes_on_as_the_saved_one(buffer, path):
    other = make(n_slice_steps=3, n_burn_in=2, seed=99)
    other.load(path)
    assert (other.pos, other.full) == (buffer.pos, buffer.full)
    for name, values in (buffer.episodes | buffer._open).items():
        assert np.array_equal(values, (other.episodes | other._open)[name]), name
    assert other.priorities.values.tobytes() == buffer.priorities.values.tobytes()
    for each in (buffer, other):
        fill(each, 7, np.random.default_rng(1))
    for _ in range(3):
        ours, theirs = buffer.sample(7), other.sample(7)
        assert torch.equal(ours.observations["place"], theirs.observations["place"])
        assert torch.equal(ours.burn_in.previous_actions, theirs.burn_in.previous_actions)
        assert torch.equal(ours.weights, theirs.weights)
        assert ours.indices.tolist() == theirs.indices.tolist()


def test_numpy_reads_the_file_without_pickle(buffer, path):
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["episodes/rewards"], buffer.episodes["rewards"])
        assert archive["episodes/observations/picture"].dtype == np.uint8
        assert json.loads(archive["state"].item())["version"] == 1


def test_a_uniform_buffer_writes_no_priorities_and_only_whole_episodes_take_room(rng, tmp_path):
    buffer = make(n_capacity=1000, priority_exponent=0.0)
    fill(buffer, 10, rng)
    buffer.save(tmp_path / "replay.npz")
    with np.load(tmp_path / "replay.npz") as archive:
        assert "priorities" not in archive.files
        assert archive["episodes/rewards"].shape == (buffer.n_episodes, 5)
    prioritised = make(n_capacity=1000)
    prioritised.load(tmp_path / "replay.npz")
    assert (prioritised.priorities.values[: buffer.n_episodes] == 1).all()


def test_an_empty_buffer_comes_back_empty(tmp_path):
    make().save(tmp_path / "replay.npz")
    other = make()
    other.load(tmp_path / "replay.npz")
    assert (other.n_episodes, other.pos, other.full) == (0, 0, False)


def test_names_of_stable_baselines3_become_npz(buffer, tmp_path):
    for name, written in (("a.pkl", "a.npz"), ("b", "b.npz"), ("run_0.5", "run_0.5.npz")):
        buffer.save(tmp_path / name)
        assert (tmp_path / written).exists()
        other = make(n_slice_steps=3, n_burn_in=2)
        other.load(tmp_path / name)
        assert other.n_episodes == buffer.n_episodes
    assert len(list(tmp_path.iterdir())) == 3


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(file, *args, **kwargs):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        make().save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["replay.npz"]


def test_pickles_are_refused_and_do_not_run(path, tmp_path):
    marker = tmp_path / "ran"
    payload = np.array([Payload(marker)], dtype=object)
    for name in ("state", "priorities", "episodes/rewards", "policy"):
        assert_refused(rewrite(path, tmp_path / "pickled.npz", **{name: payload}), "Object arrays cannot be loaded")
    plain = tmp_path / "plain.npz"
    plain.write_bytes(pickle.dumps(Payload(marker)))
    assert_refused(plain, "no whole .npz archive")
    with zipfile.ZipFile(rewrite(path, tmp_path / "added.npz"), "a") as archive:
        archive.writestr("policy.pkl", pickle.dumps(Payload(marker)))
    assert_refused(tmp_path / "added.npz", "the entry 'policy.pkl'")
    assert not marker.exists()
    pickle.loads(plain.read_bytes()).close()  # noqa: S301
    assert marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(path, tmp_path, share):
    content = path.read_bytes()
    (tmp_path / "short.npz").write_bytes(content[: int(share * len(content))])
    assert_refused(tmp_path / "short.npz", "no whole .npz archive")


def test_no_flipped_bit_passes(path, tmp_path):
    content, rng = path.read_bytes(), np.random.default_rng(0)
    flipped = tmp_path / "flipped.npz"
    with zipfile.ZipFile(path) as archive:
        first = archive.getinfo("episodes/rewards.npy")
    places = first.header_offset + 30 + len(first.filename) + 20 + rng.integers(first.file_size, size=40)
    for place in places:
        broken = bytearray(content)
        broken[place] ^= 1 << rng.integers(8)
        flipped.write_bytes(broken)
        assert_refused(flipped, "no whole .npz archive")


def test_files_that_hold_no_replay_are_refused(path, tmp_path):
    assert_refused(tmp_path / "nowhere.npz", "No such file or directory")
    assert_refused(tmp_path, "Is a directory")
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, losses=np.arange(3))
    assert_refused(foreign, "no entry 'state'")
    with foreign.open("wb") as file:
        np.save(file, np.arange(3))
    assert_refused(foreign, "a single array")
    write_tree(foreign, {"pos": 3})
    assert_refused(foreign, "no whole .npz archive")
    for changes, message in (
        ({"state": None}, "no entry 'state'"),
        ({"state": np.arange(3)}, "no entry 'state'"),
        ({"state": np.array("{")}, "unreadable entry 'state'"),
        ({"state": np.array("[1]")}, "unreadable entry 'state'"),
        ({"state": small(path, format="another")}, "the format 'another'"),
        ({"state": small(path, version=2)}, "format version 2; expected a version up to 1"),
        ({"state": small(path, rng={"bit_generator": "MT19937"})}, "unreadable entry 'state'"),
        ({"state": small(path, pos=None)}, "unreadable entry 'state'"),
        ({"state": small(path, largest_priority=-1)}, "the largest priority -1"),
        ({"state": small(path, largest_priority=None)}, "the entry 'priorities'"),
        ({"open_steps": None}, "entries left out"),
        ({"priorities": None}, "entries left out"),
        ({"losses": np.arange(3)}, "the entry 'losses'"),
    ):
        assert_refused(rewrite(path, tmp_path / "changed.npz", **changes), message)


def test_archives_that_grow_when_they_are_read_are_refused(buffer, tmp_path):
    arrays = {f"episodes/{key}": np.zeros(2_000_000) for key in buffer.episodes}
    np.savez_compressed(tmp_path / "bomb.npz", **arrays)
    with pytest.raises(ReplayFileError, match=r"bomb.npz: got the compressed entry '.*'; expected a replay buffer"):
        buffer.load(tmp_path / "bomb.npz")


@pytest.mark.parametrize(("key", "value"), [("rewards", np.nan), ("actions", 7_000.0)])
def test_values_that_would_spoil_learning_are_refused(key, value, buffer, path, tmp_path):
    with np.load(path) as archive:
        values = archive[f"episodes/{key}"].copy()
    values[0, 0] = value
    other = rewrite(path, tmp_path / "other.npz", **{f"episodes/{key}": values})
    with pytest.raises(ReplayFileError, match="values out of range; expected finite rewards and actions on"):
        buffer.load(other)


def test_files_that_do_not_fit_are_refused(path, tmp_path):
    for changes, message in (
        ({"episodes/rewards": None}, "got fields"),
        ({"open/rewards": None}, "got open fields"),
        ({"episodes/more": np.arange(3)}, "got fields"),
        ({"episodes/lengths": np.full(6, 9, np.int32)}, "lengths out of range"),
        ({"episodes/lengths": np.array(3, np.int32)}, "got .* of shape"),
        ({"priorities": np.zeros(6)}, "unfitting priorities"),
    ):
        assert_refused(rewrite(path, tmp_path / "changed.npz", **changes), f"an unfitting buffer .*{message}")
    assert_refused(path, "got 6 episodes; expected at most 4", like=make(4))
    assert_refused(
        path, r"got observations/picture of shape \(2, 6, 2, 2\); expected \(3, 6, 2, 2\)", like=make(n_envs=3)
    )
