from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from adaptive_scan.generators.adversarial import (
    ExperienceReplay,
    adversarial_losses,
    discriminator_losses,
    replace_known,
)
from adaptive_scan.trees import read_tree, write_tree


def test_losses_by_hand() -> None:
    """Equations 4 and 5 with N = 3 sizes and two scans."""
    real = [torch.tensor([1.0, 0.0]), torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0])]
    completed = [torch.tensor([0.0, 1.0]), torch.tensor([0.5, -1.0]), torch.tensor([0.0, 2.0])]
    found = discriminator_losses(real, completed)
    torch.testing.assert_close(found, torch.tensor([0.5 / 3, (1 + 1 + 1 + 1 + 4) / 3]))
    torch.testing.assert_close(adversarial_losses(completed), torch.tensor([(1 + 0.25 + 1) / 3, (0 + 4 + 1) / 3]))


def test_losses_are_least_at_the_labels() -> None:
    ones, zeros = [torch.ones(2)] * 3, [torch.zeros(2)] * 3
    assert discriminator_losses(ones, zeros).tolist() == [0.0, 0.0]
    assert discriminator_losses(zeros, ones).tolist() == [2.0, 2.0]
    assert adversarial_losses(ones).tolist() == [0.0, 0.0]
    assert adversarial_losses(zeros).tolist() == [1.0, 1.0]


def test_known_pixels_are_the_micrographs_and_get_no_gradient(make_scans: Callable[..., Tensor]) -> None:
    scans = make_scans(3, 8, 0.3)
    completions = torch.zeros(3, 1, 8, 8, requires_grad=True)
    shown = replace_known(completions, torch.ones(3, 1, 8, 8), scans)
    assert torch.equal(shown, scans[:, 1:])
    shown.sum().backward()
    assert torch.equal(completions.grad, 1 - scans[:, 1:])


def _batch(*values: float) -> tuple[Tensor, Tensor]:
    numbers = torch.tensor(values)
    return numbers[:, None].expand(-1, 3), numbers.long()


def _kept(replay: ExperienceReplay) -> list[float]:
    return [example[0][0].item() for example in replay.examples]


def test_the_top_share_of_recent_losses_is_kept_and_the_oldest_gives_way() -> None:
    replay = ExperienceReplay(size=2, top_share=0.5, chance=0.2)  # losses of the last four decide
    replay.keep(_batch(1, 2, 3, 4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert _kept(replay) == [3, 4]
    replay.keep(_batch(5), torch.tensor([2.4]))  # median of 2, 3, 4, 2.4 is 2.7
    assert _kept(replay) == [3, 4]
    replay.keep(_batch(6), torch.tensor([2.8]))  # median of 3, 4, 2.4, 2.8 is 2.9
    assert _kept(replay) == [3, 4]
    replay.keep(_batch(7), torch.tensor([2.7]))  # median of 4, 2.4, 2.8, 2.7 is 2.75
    assert _kept(replay) == [3, 4]
    replay.keep(_batch(8), torch.tensor([2.75]))  # median of 2.4, 2.8, 2.7, 2.75 is 2.725
    assert _kept(replay) == [4, 8]
    assert len(replay) == 2


def test_share_that_is_kept_is_the_one_asked_for_though_losses_drift(rng: np.random.Generator) -> None:
    replay = ExperienceReplay(size=50, top_share=0.2)
    n_kept = 0
    for step in range(400):
        losses = torch.from_numpy(rng.exponential(size=4)) * 0.99**step
        before = replay.examples
        replay.keep((torch.arange(4) + 4 * step,), losses)
        known = {int(example[0]) for example in before}
        n_kept += sum(int(example[0]) not in known for example in replay.examples)
    # falling losses, by 46 % over the window of 250, are kept less often
    assert 0.1 < n_kept / 1600 < 0.2
    assert len(replay) == 50


def test_chance_of_being_replayed_and_the_evenness_of_the_choice() -> None:
    replay = ExperienceReplay(size=4, top_share=1.0, chance=0.2)
    generator = torch.Generator().manual_seed(0)
    assert replay.draw(1000, generator).tolist() == [-1] * 1000
    replay.keep(_batch(1, 2, 3, 4), torch.ones(4))
    places = replay.draw(20_000, generator)
    counts = torch.bincount(places + 1, minlength=5).tolist()
    assert counts[0] == pytest.approx(16_000, abs=5 * (20_000 * 0.2 * 0.8) ** 0.5)
    assert counts[1:] == pytest.approx([1000] * 4, abs=5 * (20_000 * 0.05 * 0.95) ** 0.5)


def test_as_many_numbers_are_drawn_whether_or_not_there_is_something_to_replay() -> None:
    full = ExperienceReplay(top_share=1.0)
    full.keep(_batch(1, 2), torch.ones(2))
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    full.draw(5, first)
    ExperienceReplay().draw(5, second)
    assert torch.equal(first.get_state(), second.get_state())


def test_replaced_scans_are_the_kept_ones_and_others_stay() -> None:
    replay = ExperienceReplay(size=4, top_share=1.0)
    replay.keep(_batch(1, 2), torch.ones(2))
    batch = _batch(7, 8, 9)
    values, numbers = replay.replace(batch, torch.tensor([-1, 1, 0]))
    assert values.tolist() == [[7.0] * 3, [2.0] * 3, [1.0] * 3]
    assert numbers.tolist() == [7, 2, 1]
    assert batch[1].tolist() == [7, 8, 9]
    assert replay.replace(batch, torch.full((3,), -1)) is batch


def test_kept_examples_do_not_follow_the_batch_they_came_from() -> None:
    replay = ExperienceReplay(size=4, top_share=1.0)
    values = torch.ones(1, 3)
    replay.keep((values,), torch.ones(1))
    values.zero_()
    assert _kept(replay) == [1.0]


def test_state_goes_through_a_file_and_on_as_before(tmp_path: Path, rng: np.random.Generator) -> None:
    first = ExperienceReplay(size=3, top_share=0.5)
    for step in range(4):
        first.keep(_batch(*(4 * step + i for i in range(4))), torch.from_numpy(rng.random(4)))
    write_tree(tmp_path / "replay.safetensors", first.state_dict())
    second = ExperienceReplay(size=3, top_share=0.5)
    second.load_state_dict(read_tree(tmp_path / "replay.safetensors"))
    assert _kept(first) == _kept(second)
    for replay in (first, second):
        replay.keep(_batch(90, 91), torch.tensor([0.2, 0.9]))
    assert _kept(first) == _kept(second)
    assert _kept(first)[-1] == 91
    assert first.examples[0][1].dtype == second.examples[0][1].dtype == torch.int64


def test_an_empty_replay_has_a_state(tmp_path: Path) -> None:
    write_tree(tmp_path / "replay.safetensors", ExperienceReplay().state_dict())
    replay = ExperienceReplay()
    replay.load_state_dict(read_tree(tmp_path / "replay.safetensors"))
    assert len(replay) == 0
    replay.keep(_batch(), torch.zeros(0))
    assert len(replay) == 0


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"size": 0}, "size: got 0; expected at least 1"),
        ({"top_share": 0.0}, "top_share: got 0.0; expected more than 0 and at most 1"),
        ({"chance": 1.0}, "chance: got 1.0; expected 0 or more, and less than 1"),
    ],
)
def test_settings_out_of_range_are_refused(keywords: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExperienceReplay(**keywords)  # type: ignore[arg-type]
