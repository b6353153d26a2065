"""The benchmark on tasks that hide part of their state: a short version of it, and what its runs leave behind."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from adaptive_scan.agents import MEMORIES, make_memory

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small run slower on several threads than on one."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def pomdp(monkeypatch):
    """The modules of the benchmark by name; what they register is gone after the test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("tasks", "agents", "run", "table")
    modules = {name: importlib.import_module(f"pomdp.{name}") for name in names}
    MEMORIES.pop("forgetful", None)
    monkeypatch.setitem(MEMORIES, "forgetful", modules["agents"].Forgetful)
    return modules


def test_the_pendulum_shows_its_velocity_alone_or_everything_else(pomdp):
    full = gym.make("Pendulum-v1")
    angle, velocity = (pomdp["tasks"].TASKS[f"pendulum-{name}"].make_env() for name in ("no-velocity", "velocity"))
    for env in (full, angle, velocity):
        env.reset(seed=3)
    for action in np.linspace(-2.0, 2.0, 20, dtype=np.float32)[:, None]:
        seen = [env.step(action) for env in (full, angle, velocity)]
        np.testing.assert_allclose(seen[1][0], seen[0][0][:2], atol=1e-6)
        np.testing.assert_allclose(seen[2][0], seen[0][0][2:] / 8.0, atol=1e-6)
        assert seen[0][1] == seen[1][1] == seen[2][1]


@pytest.mark.parametrize("n_steps", [1, 2, 10])
def test_the_cue_is_shown_once_and_asked_for_last(pomdp, n_steps):
    env = pomdp["tasks"].Cue(n_steps)
    for seed in range(4):
        seen, _ = env.reset(seed=seed)
        cue, rewards = seen[0], []
        assert abs(cue) == 1.0
        for step in range(n_steps):
            assert seen[1] == (step == n_steps - 1)
            assert step == 0 or seen[0] == 0.0
            seen, reward, terminated, truncated, _ = env.step(np.array([0.25], np.float32))
            rewards.append(reward)
        assert terminated
        assert not truncated
        assert rewards == pytest.approx([0.0] * (n_steps - 1) + [-((0.25 - cue) ** 2)])


def test_a_forgetful_memory_is_the_memory_started_anew_at_each_step(pomdp):
    torch.manual_seed(0)
    forgetful = make_memory("forgetful", 3, of="lstm", hidden_size=4, n_layers=1)
    inputs = torch.randn(2, 5, 3)
    outputs, state = forgetful(inputs)
    for step in range(5):
        alone, _ = forgetful.memory(inputs[:, step : step + 1])
        torch.testing.assert_close(outputs[:, step : step + 1], alone)
        torch.testing.assert_close(forgetful(inputs[:, step : step + 1], state)[0], alone)


def test_a_cue_is_acted_on_ten_steps_later_and_not_without_a_memory(pomdp, tmp_path):
    arguments = ["cue-10", "--algorithms", "rdpg", "--seeds", "0", "--n-steps", "9600", "--folder", str(tmp_path)]
    (remembers,) = pomdp["run"].main(arguments)
    (forgets,) = pomdp["run"].main([*arguments, "--forgetful"])
    assert remembers.means[-1] > -0.15  # 0 at best
    assert forgets.means[-1] < -0.9  # -1 at best


def test_a_smaller_memory_begins_to_swing_the_pendulum_up_without_its_velocity(pomdp, tmp_path, monkeypatch):
    tasks, name = pomdp["tasks"].TASKS, "pendulum-no-velocity"
    task = tasks[name]
    smaller = {
        "memories": {**task.memories, "lstm": {"hidden_size": 32, "n_layers": 1}},
        "settings": {**task.settings, "learning_rate": 2e-3},
    }
    monkeypatch.setitem(tasks, name, dataclasses.replace(task, **smaller, evaluate_every=8_000))
    arguments = [name, "--algorithms", "rdpg", "--seeds", "1", "--n-steps", "8000", "--folder", str(tmp_path)]
    (progress,) = pomdp["run"].main(arguments)
    assert progress.means[0] < -1_000  # it hangs, as it does after 8,000 steps of an agent that does not learn
    assert progress.means[-1] > -800  # -549, -181 and -458 with the seeds 0, 1 and 2


@pytest.mark.slow
def test_the_pendulum_is_swung_up_without_its_velocity(pomdp, tmp_path):
    arguments = ["pendulum-no-velocity", "--algorithms", "rdpg", "--seeds", "0", "--n-steps", "12000"]
    (progress,) = pomdp["run"].main([*arguments, "--folder", str(tmp_path)])
    assert progress.means[0] < -1_000  # it hangs
    assert progress.means[-1] > -400  # -148 after 40,000 steps


def test_an_interrupted_run_goes_on_and_a_finished_one_is_left_alone(pomdp, tmp_path, monkeypatch, capsys):
    run = pomdp["run"]
    arguments = ["cue-10", "--algorithms", "rdpg", "--seeds", "1", "--n-steps", "6400", "--folder", str(tmp_path)]
    evaluate, calls = run.evaluate, []

    def fail_at_the_third(model, envs):
        calls.append(model.num_timesteps)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(model, envs)

    monkeypatch.setattr(run, "evaluate", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run.main(arguments)
    assert calls == [0, 3_200, 6_400]
    kept = json.loads((tmp_path / "cue-10-rdpg-lstm-1.json").read_text())
    assert kept["steps"] == [0, 3_200]
    assert not kept["finished"]

    (progress,) = run.main(arguments)
    assert progress.means[:2] == kept["means"]
    assert progress.steps == [0, 3_200, 6_400]
    assert progress.finished
    assert not list((tmp_path / "checkpoints").iterdir())
    n_calls = len(calls)
    assert run.main(arguments) == [progress]
    assert len(calls) == n_calls

    with pytest.raises(SystemExit, match="2"):
        run.main([*arguments, "--n-steps", "3200"])
    assert "got other settings; expected those of the task, or another folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run.main(["cue-10", "--memories", "rnn"])
    assert capsys.readouterr().err == "error: memories: got 'rnn'; expected some of lstm, gru, dnc, transformer\n"


def test_the_table_has_a_row_for_each_agent_and_each_published_return(pomdp, tmp_path, capsys):
    for seed, final in enumerate([-150.0, -160.0, -190.0]):
        record = {
            **{"task": "pendulum-velocity", "algorithm": "rdpg", "memory": "lstm", "forgets": False, "seed": seed},
            **{"settings": {}, "steps": [0, 1_000], "means": [-1_200.0, final], "spreads": [1.0, 1.0]},
            **{"final_returns": [final - 5.0, final + 5.0], "seconds": 1.0, "finished": True},
        }
        (tmp_path / f"{seed}.json").write_text(json.dumps(record))
    (tmp_path / "unfinished.json").write_text(json.dumps({**record, "finished": False, "memory": "gru"}))
    pomdp["table"].main(["--folder", str(tmp_path), "--figure", str(tmp_path / "curves.png")])
    printed = capsys.readouterr().out
    assert "| RDPG, LSTM | 1,000 | 3 | -160.0 | -150.0, -160.0, -190.0 | 5.0 |" in printed
    assert "recurrent TD3 (pomdp-baselines, last ten evaluations) | 31,000 |  | -181.7 |" in printed
    assert "GRU" not in printed
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
