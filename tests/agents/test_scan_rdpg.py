"""The scan agent: its rewards by hand, its partial scans against the environment's, and exact continuation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from adaptive_scan.agents import RDPG, CoTraining, OrnsteinUhlenbeckNoise, ScanRDPG
from adaptive_scan.envs import DwellControl, PartialScanVecEnv, ScanBatch
from adaptive_scan.errors import SettingError
from adaptive_scan.generators import blur_targets, completion_loss, make_generator
from adaptive_scan.generators.families import draw_positions
from adaptive_scan.micrographs import ArrayCrops
from adaptive_scan.scans import ScanGeometry, coverage, partial_scans, polygonal_spiral, sample
from adaptive_scan.trees import read_tree, write_tree

GEOMETRY = ScanGeometry(16, 4, 5, 1.5)
PLAIN = CoTraining(augment=False)


class Noise:
    """An instrument that displaces the probe and adds noise to what it reads."""

    value_range = (-2.0, 2.0)

    def displace(self, positions, rng):
        return positions + rng.normal(0, 0.5, positions.shape)

    def detect(self, values, rng):
        return np.clip(values + rng.normal(0, 0.1, values.shape), -2, 2)


def make_envs(n_envs=4, **settings):
    coarse = np.random.default_rng(1).uniform(-1, 1, (12, 4, 4)).astype(np.float32)
    crops = ArrayCrops(coarse.repeat(4, axis=1).repeat(4, axis=2), symmetries=True)
    settings = {"completer": None, "action_kind": "angle", **settings}
    return PartialScanVecEnv(n_envs, crops, geometry=GEOMETRY, **settings)


def make_agent(co_training=PLAIN, envs=None, seed=0, **settings):
    envs = make_envs() if envs is None else envs
    generator = make_generator("unet", seed=seed, n_channels=4, n_levels=2)
    settings = {"train_freq": 3, "batch_size": 8, "learning_starts": 0, "buffer_size": 300, **settings}
    return ScanRDPG(
        "MultiInputMemoryPolicy",
        envs,
        generator=generator,
        generator_optimizer=torch.optim.AdamW(generator.parameters()),
        generator_learning_rate=lambda remaining: 5e-3 * remaining,
        reference_headings=polygonal_spiral(GEOMETRY),
        co_training=co_training,
        policy_kwargs={"memory_kwargs": {"hidden_size": 6, "n_layers": 1}},
        device="cpu",
        seed=seed,
        **settings,
    )


class Finals(BaseCallback):
    """Keeps the infos of ended scans, in the order in which they reach the replay buffer."""

    def __init__(self):
        super().__init__()
        self.infos = []

    def _on_step(self):
        self.infos += [info for info in self.locals["infos"] if "positions" in info]
        return True


def collect(agent, n_iterations=2):
    """Random scans of this agent without any learning, and what the environment says of them."""
    finals = Finals()
    agent.gradient_steps, agent.learning_starts = 0, 10**6
    agent.learn(n_iterations * 3 * agent.n_envs, callback=finals)
    assert agent.replay_buffer.n_episodes == len(finals.infos) == n_iterations * agent.n_envs
    return agent.replay_buffer._get_samples(np.arange(len(finals.infos))), finals.infos


@pytest.mark.parametrize("acquisition", [None, Noise()])
def test_replayed_partial_scans_are_the_environment_s_to_the_last_bit(acquisition):
    agent = make_agent(envs=make_envs(acquisition=acquisition))
    batch, infos = collect(agent)
    values, positions = (np.stack([info[key] for info in infos]) for key in ("values", "positions"))
    expected = partial_scans(values, positions, GEOMETRY.image_size)
    assert np.array_equal(agent._replayed_scans(batch).numpy(), expected)
    assert np.array_equal(batch.fields["crop_id"].numpy(), np.stack([info["crop_id"] for info in infos]))
    # Some scans cross themselves, where values average.
    assert len(set(coverage(positions, GEOMETRY.image_size).tolist())) > 1


def test_rewards_are_capped_losses_less_the_reference_over_their_running_mean():
    agent = make_agent()
    agent.learn(0)
    # Start: mu1 = 1, mu2 = 4, so that losses are capped at 1 + 3 sqrt(3).
    limit = 1 + 3 * 3**0.5
    losses, references = torch.tensor([1.0, 2.0, 30.0]), torch.tensor([0.5, 50.0, 1.0])
    mean = (1 + 2 + limit) / 3
    expected = torch.tensor([1 - 0.5, 2 - limit, limit - 1]) / mean
    torch.testing.assert_close(agent._score(losses, references), expected)
    mu1, mu2 = 0.999 + 0.001 * mean, 0.999 * 4 + 0.001 * (1 + 4 + limit**2) / 3
    assert agent._alrc_state.mu1 == pytest.approx(mu1, rel=1e-6)
    assert agent._alrc_state.mu2 == pytest.approx(mu2, rel=1e-6)
    second_limit = mu1 + 3 * (mu2 - mu1**2) ** 0.5
    second_mean = 0.997 * mean + 0.003 * (0.5 + second_limit) / 2
    expected = torch.tensor([0.5 - 0.25, second_limit - second_limit]) / second_mean
    got = agent._score(torch.tensor([0.5, 7.0]), torch.tensor([0.25, 9.0]))
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_rewards_without_cap_and_reference_are_losses_over_their_running_mean():
    agent = make_agent(CoTraining(use_alrc=False, reward="absolute", loss_decay=0.5))
    agent.learn(0)
    torch.testing.assert_close(agent._score(torch.tensor([10.0, 30.0]), None), torch.tensor([0.5, 1.5]))
    # 0.5 * 20 + 0.5 * 40
    torch.testing.assert_close(agent._score(torch.tensor([40.0, 40.0]), None), torch.tensor([4 / 3, 4 / 3]))


def test_log_ratios_weigh_every_crop_alike():
    agent = make_agent(CoTraining(reward="log-ratio", use_alrc=False))
    agent.learn(0)
    got = agent._score(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0]))
    # The mean is 2, and a hundredth of it keeps the ratio of two perfect completions at 1.
    torch.testing.assert_close(got, torch.tensor([1.02 / 2.02, 3.02 / 0.02]).log())


@pytest.mark.parametrize("blur", [True, False])
def test_batch_rewards_keep_the_edge_penalty_and_score_the_last_step(blur):
    agent = make_agent(CoTraining(augment=False, blur=blur), make_envs(edge_penalty=0.25))
    batch, infos = collect(agent, 4)
    outside = np.stack([((p := info["positions"][1:, -1]) < 0).any(-1) | (p > 15).any(-1) for info in infos])
    penalties = -0.25 * torch.from_numpy(outside).float()
    assert 0 < outside.sum() < outside.size
    torch.testing.assert_close(batch.rewards, penalties)

    crops = agent.crops.take(np.stack([info["crop_id"] for info in infos]))
    targets = torch.from_numpy(crops)[:, None]
    targets = blur_targets(targets) if blur else targets
    path = GEOMETRY.path(polygonal_spiral(GEOMETRY)[None]).reshape(1, -1, 2)
    scans = partial_scans(
        np.stack([i["values"] for i in infos]), np.stack([i["positions"] for i in infos]), GEOMETRY.image_size
    )
    reference_scans = partial_scans(sample(crops, path), path, GEOMETRY.image_size)
    with torch.no_grad():
        losses, references = (
            completion_loss(agent.generator(torch.from_numpy(s)), targets) for s in (scans, reference_scans)
        )
    losses, references = (each.clamp(max=1 + 3 * 3**0.5) for each in (losses, references))
    rewards = agent.batch_rewards(batch)
    torch.testing.assert_close(rewards[:, :2], penalties[:, :2])
    torch.testing.assert_close(
        rewards[:, 2], penalties[:, 2] - (losses - references) / losses.mean(), atol=1e-5, rtol=1e-4
    )
    # The replay keeps the penalties alone: the next batch is scored anew.
    torch.testing.assert_close(batch.rewards, penalties)


def test_the_generator_learns():
    agent = make_agent(CoTraining(), learning_rate=0.0)
    batch, _ = collect(agent)
    agent.gradient_steps, agent.learning_starts = 4, 0
    crops = torch.from_numpy(agent.crops.take(batch.fields["crop_id"].numpy()))
    scans, targets = agent._replayed_scans(batch), blur_targets(crops[:, None])

    def loss():
        with torch.no_grad():
            return completion_loss(agent.generator(scans), targets).mean().item()

    before = loss()
    agent.learn(12 * 50, reset_num_timesteps=False)
    assert loss() < 0.7 * before
    # The learning rate is that of the remaining progress: nothing is left at the end.
    assert agent.generator_optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    assert [part.shape for part in agent.examples] == [(4, 2, 16, 16), (4, 1, 16, 16), (4, 1, 16, 16)]


def test_the_generator_s_batch_holds_static_scans_of_the_replayed_crops_too():
    agent = make_agent(CoTraining(static_scans=("spiral", "random"), n_static=3, augment=False))
    batch, _ = collect(agent)
    crops = torch.from_numpy(agent.crops.take(batch.fields["crop_id"].numpy()))
    drawn = agent.rng.bit_generator.state
    static = agent._static_scans(crops[:3])
    agent.rng.bit_generator.state = drawn
    with torch.no_grad():
        expected = completion_loss(agent.generator(static), blur_targets(crops[:3, None])).mean().item()
    agent.batch_rewards(batch)
    assert agent.logger.name_to_value["generator/loss_static"] == pytest.approx(expected, rel=1e-4)


def test_no_static_scans_without_families():
    agent = make_agent(CoTraining(static_scans=(), n_static=4))
    agent.learn(24)
    assert "generator/loss_static" not in agent.logger.name_to_value
    assert np.isfinite(agent.logger.name_to_value["generator/loss"])


def test_the_newest_scans_are_completed_and_remembered_with_their_scores():
    agent = make_agent(CoTraining(complete="newest", n_remembered_updates=2, remembered_batch_size=5), batch_size=4)
    collect(agent, 3)
    agent.gradient_steps, agent.learning_starts = 1, 0
    seen = []
    update = agent._update
    agent._update = lambda batch, rewards: (seen.append((batch, rewards)), update(batch, rewards))
    agent.learn(12, reset_num_timesteps=False)
    scores = agent.replay_buffer.episodes["fields/score"][:16]
    # Of four iterations with four scans each only the last one's have been completed.
    assert np.isnan(scores).tolist() == [True] * 12 + [False] * 4
    assert seen[0][0].indices.tolist() == [15, 14, 13, 12]
    assert [len(batch.indices) for batch, _ in seen] == [4, 5, 5]
    for batch, rewards in seen:
        assert set(batch.indices.tolist()) <= {12, 13, 14, 15}
        expected = batch.rewards[:, -1].numpy() - scores[batch.indices]
        np.testing.assert_allclose(rewards[:, -1].numpy(), expected, rtol=1e-6)
        np.testing.assert_array_equal(rewards[:, :-1], batch.rewards[:, :-1])


def make_trial(**settings):
    rng = np.random.default_rng(0)
    return ScanBatch(
        6, make_envs().batch.source, rng=rng, geometry=GEOMETRY, completer=None, action_kind="angle", **settings
    )


def test_the_better_actor_on_the_trial_s_crops_is_kept():
    agent = make_agent(trial=make_trial())
    loss, best_loss = agent.try_actor()
    assert loss == best_loss
    first = copy.deepcopy(agent.actor.state_dict())
    # By hand: the actor's scans of the trial's crops, completed by the generator.
    envs = PartialScanVecEnv(6, agent.crops, geometry=GEOMETRY, completer=None, action_kind="angle")
    envs.batch.reset(crop_ids=agent._trial_crops)
    observations, state, dones = envs.batch.observations(), None, np.zeros(6, bool)
    while not dones.any():
        actions, state = agent.predict(observations, state)
        observations, _, dones, infos = envs.step(actions)
    scans = partial_scans(np.stack([i["values"] for i in infos]), np.stack([i["positions"] for i in infos]), 16)
    targets = blur_targets(torch.from_numpy(agent.crops.take(agent._trial_crops))[:, None])
    with torch.no_grad():
        expected = completion_loss(agent.generator(torch.from_numpy(scans)), targets).mean().item()
    assert loss == pytest.approx(expected, rel=1e-5)

    tried = {}
    for turn in (-0.5, -0.25, 0.25, 0.5):
        for parameter in agent.actor.head.parameters():
            torch.nn.init.constant_(parameter, 0.0)
        agent.actor.head[-1].bias.data.fill_(turn)
        tried[turn], best = agent.try_actor()
        assert agent.actor.head[-1].bias.item() == turn
        assert best == min(loss, *tried.values())
    assert len(set(tried.values())) == 4
    with agent.using_best_actor():
        kept = {name: value.clone() for name, value in agent.actor.state_dict().items()}
    best_turn = min(tried, key=tried.get)
    if tried[best_turn] < loss:
        assert kept["head.2.bias"].item() == best_turn
    else:
        assert all(torch.equal(kept[name], first[name]) for name in first)
    assert agent.actor.head[-1].bias.item() == 0.5


class Snapshot(BaseCallback):
    """Writes the training state between two updates."""

    def __init__(self, at, path):
        super().__init__()
        self.at, self.path = at, path

    def _on_rollout_start(self):
        self.model.try_actor()
        if self.num_timesteps == self.at:
            write_tree(self.path, self.model.training_state())

    def _on_step(self):
        return True


class TryActor(BaseCallback):
    """Tries the actor between updates, but not again where the checkpoint was written."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_rollout_start(self):
        if self.num_timesteps > self.at:
            self.model.try_actor()

    def _on_step(self):
        return True


@pytest.mark.parametrize(("train_freq", "acquisition"), [(3, Noise()), (2, Noise()), (2, "fast-scan")])
def test_a_resumed_run_ends_as_the_one_that_was_not_interrupted(train_freq, acquisition, tmp_path):
    """With a new agent of another seed, a noisy instrument, and (train_freq 2) scans cut in the middle."""

    def agent(seed):
        return make_agent(
            CoTraining(static_scans=("random", "spiral"), n_static=3, n_remembered_updates=1, remembered_batch_size=4),
            make_envs(acquisition=acquisition, reference_headings=polygonal_spiral(GEOMETRY)),
            seed=seed,
            train_freq=train_freq,
            buffer_size=30,
            action_noise=OrnsteinUhlenbeckNoise(4, np.array([0.3]), final_scale=0.1, seed=seed),
            trial=make_trial(acquisition=acquisition),
        )

    total, at = 4 * train_freq * 9, 4 * train_freq * 5
    straight = agent(0)
    straight.learn(total, callback=Snapshot(at, tmp_path / "checkpoint.safetensors"))
    resumed = agent(5)
    checkpoint = read_tree(tmp_path / "checkpoint.safetensors")
    resumed.load_training_state(checkpoint)
    assert all(torch.equal(value, checkpoint["best_actor"][name]) for name, value in resumed.best_actor.items())
    resumed.learn(total - at, callback=TryActor(at), reset_num_timesteps=False)
    for name, each in (("straight", straight), ("resumed", resumed)):
        assert each.num_timesteps == total
        write_tree(tmp_path / name, each.training_state())
    assert (tmp_path / "straight").read_bytes() == (tmp_path / "resumed").read_bytes()
    seen = straight.env.batch.observations()["measured"]
    assert np.array_equal(seen, resumed.env.batch.observations()["measured"])


def test_a_loaded_state_is_not_shared():
    first, second = make_agent(), make_agent()
    first.learn(48)
    second.load_training_state(first.training_state())
    kept = copy.deepcopy(second.generator_optimizer.state_dict()["state"])
    first.learn(24, reset_num_timesteps=False)
    for index, state in second.generator_optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[name], kept[index][name]) for name in state)


def test_its_policy_file_is_rdpg_s_and_it_goes_on_with_its_generator(tmp_path):
    agent = make_agent()
    agent.learn(24)
    agent.save(tmp_path / "policy.zip")
    envs = make_envs()
    observations = envs.reset()
    expected, _ = agent.predict(observations)
    assert np.array_equal(RDPG.load(tmp_path / "policy.zip", device="cpu").predict(observations)[0], expected)
    loaded = ScanRDPG.load(
        tmp_path / "policy.zip",
        VecMonitor(envs),
        device="cpu",
        generator=agent.generator,
        generator_optimizer=agent.generator_optimizer,
        generator_learning_rate=agent.generator_learning_rate,
        reference_headings=polygonal_spiral(GEOMETRY),
    )
    assert np.array_equal(loaded.predict(observations)[0], expected)
    assert loaded.learn(24).replay_buffer.n_episodes == 8


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(SettingError, match="expected completer=None"):
        make_agent(envs=make_envs(completer="nearest"))
    with pytest.raises(SettingError, match="env: got one with free dwell times; expected dwell=None"):
        make_agent(envs=make_envs(dwell=DwellControl(1e-6, 4e-6, 1e-3)))
    with pytest.raises(SettingError, match="got a VecNormalize"):
        make_agent(envs=VecNormalize(make_envs()))
    with pytest.raises(SettingError, match="reward: got 'relative' and no reference_headings"):
        ScanRDPG(
            "MultiInputMemoryPolicy",
            make_envs(),
            generator=torch.nn.Identity(),
            generator_optimizer=None,
            generator_learning_rate=None,
        )
    with pytest.raises(SettingError, match="reward: got 'ratio'; expected one of absolute, relative, log-ratio"):
        CoTraining(reward="ratio")
    with pytest.raises(SettingError, match="complete: got 'oldest'; expected one of replayed, newest"):
        CoTraining(complete="oldest")
    with pytest.raises(SettingError, match="replay_buffer_class, replay_buffer_kwargs: got some; expected none"):
        make_agent(replay_buffer_kwargs={"n_slice_steps": 2})
    with pytest.raises(ValueError, match="trial: got None when the agent was made"):
        make_agent().try_actor()
    with pytest.raises(SettingError, match=r"env: got None; expected scans to go on with"):
        ScanRDPG.load(tmp_path / "policy.zip")


@pytest.mark.parametrize("reward", ["relative", "log-ratio"])
@pytest.mark.parametrize("acquisition", [None, "fast-scan"])
def test_a_scan_equal_to_its_reference_scores_nothing_under_any_symmetry(reward, acquisition):
    envs = make_envs(reference_headings=polygonal_spiral(GEOMETRY), acquisition=acquisition)
    agent = make_agent(CoTraining(reward=reward, use_alrc=False, augment=True), envs, action_noise=None)
    agent.actor.head[-1].weight.data.zero_()
    agent.actor.head[-1].bias.data.zero_()
    with torch.no_grad():  # the untrained generator is symmetric: it returns the infill
        agent.generator.correction.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    agent.train = lambda *_, **__: None  # collect only
    agent.learn(12)
    batch = agent.replay_buffer.newest(4)
    rewards = agent.batch_rewards(batch)
    torch.testing.assert_close(rewards, batch.rewards, atol=1e-5, rtol=0)


def test_relative_rewards_refuse_batch_normalisation():
    generator = make_generator("residual", seed=0)
    with pytest.raises(SettingError, match="reward: got 'log-ratio' for a generator with batch normalisation"):
        ScanRDPG(
            "MultiInputMemoryPolicy",
            make_envs(),
            generator=generator,
            generator_optimizer=torch.optim.AdamW(generator.parameters()),
            generator_learning_rate=lambda _: 1e-3,
            reference_headings=polygonal_spiral(GEOMETRY),
            co_training=CoTraining(reward="log-ratio"),
        )


def test_static_and_reference_scans_go_through_the_instrument():
    envs = make_envs(reference_headings=polygonal_spiral(GEOMETRY), acquisition="fast-scan")
    agent = make_agent(CoTraining(static_scans=("random",), n_static=3), envs)
    batch, infos = collect(agent)
    assert batch.fields["instrument_key"].tolist() == [info["instrument_key"] for info in infos]
    crops = agent.crops.take(batch.fields["crop_id"].numpy())

    def by_hand(positions, begun):
        reading = agent.instrument.measure(positions, lambda displaced: sample(crops, displaced), begun)
        return partial_scans(reading.values, positions, GEOMETRY.image_size)

    before = agent.rng.bit_generator.state
    static = agent._static_scans(torch.from_numpy(crops)).numpy()
    agent.rng.bit_generator.state = before
    positions = draw_positions(("random",), GEOMETRY, len(crops), agent.rng)
    np.testing.assert_array_equal(static, by_hand(positions, agent.instrument.begin(len(crops), agent.rng)))
    ideal = partial_scans(sample(crops, positions), positions, GEOMETRY.image_size)
    assert np.abs(static - ideal).max() > 0.1

    path = GEOMETRY.path(polygonal_spiral(GEOMETRY)[None]).reshape(1, -1, 2).repeat(len(crops), axis=0)
    references = agent._reference_scans(torch.from_numpy(crops), batch).numpy()
    keys = batch.fields["instrument_key"].numpy()
    np.testing.assert_array_equal(references, by_hand(path, agent.instrument.begin_with(keys)))


def test_the_ideal_instrument_draws_nothing():
    agent = make_agent(CoTraining(static_scans=("random",), n_static=3))
    batch, infos = collect(agent)
    assert set(batch.fields) == {"crop_id", "score", "pixels"}
    assert "instrument_key" not in infos[0]
    crops = torch.from_numpy(agent.crops.take(batch.fields["crop_id"].numpy()))
    before = agent.rng.bit_generator.state
    agent._static_scans(crops)
    after, agent.rng.bit_generator.state = agent.rng.bit_generator.state, before
    draw_positions(("random",), GEOMETRY, len(crops), agent.rng)
    assert agent.rng.bit_generator.state == after


@pytest.mark.parametrize("acquisition", [Noise(), "low-dose"])
def test_both_actors_of_a_trial_meet_the_same_faults_and_each_trial_others(acquisition):
    agent = make_agent(trial=make_trial(acquisition=acquisition))
    first, second = agent.try_actor(), agent.try_actor()
    assert first[0] == first[1] != second[0] == second[1]
