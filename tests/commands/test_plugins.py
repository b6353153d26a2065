"""Policies and completers by name: what is found, what is refused, and in which words."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from adaptive_scan.commands.plugins import NamedPolicy, check_completer, check_policy, load_completer, load_policy
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender
from adaptive_scan.scans import ScanGeometry

MODULE = """
import numpy as np
import torch
from torch import nn

from adaptive_scan.evaluation import Contender


class Straight:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["heading"], None


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.drop = nn.Dropout(0.5)

    def forward(self, partial_scans):
        return self.drop(partial_scans[:, 1:] * self.weight)


class WithoutPredict:
    predict = 3


def own():
    return Contender("chosen", policy=Straight(), environment={"observe_image": True})


def mask():
    return lambda partial_scans: partial_scans[:, 1:]


def fails():
    raise ValueError("no weights\\nhere")


def both_channels():
    return lambda partial_scans: partial_scans


def an_array():
    return lambda partial_scans: partial_scans[:, :1].numpy()


def nowhere_finite():
    return lambda partial_scans: partial_scans[:, :1] / partial_scans[:, :1]


def for_another_size():
    return lambda partial_scans: partial_scans[:, :1] + torch.zeros(7)


def a_number():
    return 3


number = 3


class Raises:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["picture"], state


class Nowhere:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation["position"]), 2), np.nan), state


class OneNumber:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation["position"]), 1)), state


def unknown_setting():
    return Contender("a", policy=Straight(), environment={"observe_sound": True})


def another_dose():
    from adaptive_scan.scans import ScanGeometry

    return Contender("a", policy=Straight(), environment={"geometry": ScanGeometry(16, 4, 5)})
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules of a user's; what they leave in the interpreter is taken out again."""
    (tmp_path / "my_plugins.py").write_text(MODULE)
    (tmp_path / "my_broken_plugins.py").write_text("1 / 0\n")
    (tmp_path / "my_unreadable_plugins.py").write_text("def (\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_a_policy_has_the_name_of_its_factory() -> None:
    contender = load_policy("my_plugins:Straight")
    assert (contender.name, contender.environment) == ("Straight", {})
    assert contender.policy.predict({"heading": 3}) == (3, None)


def test_a_policy_may_bring_its_own_name_and_settings() -> None:
    contender = load_policy("my_plugins:own")
    assert isinstance(contender, Contender)
    assert (contender.name, contender.environment) == ("chosen", {"observe_image": True})


def test_a_completer_has_the_name_of_its_factory() -> None:
    name, complete = load_completer("my_plugins:mask", image_size=8)
    assert name == "mask"
    assert complete(torch.ones(1, 2, 8, 8)).shape == (1, 1, 8, 8)


def test_a_network_does_not_drop_out() -> None:
    name, network = load_completer("my_plugins:Dropping")
    assert (name, isinstance(network, nn.Module), network.training) == ("Dropping", True, False)
    assert bool((network(torch.ones(1, 2, 8, 8)) == 1).all())


def test_a_trial_sees_few_measured_zeros_and_keeps_no_gradients() -> None:
    seen = []

    def remember(partial_scans: torch.Tensor) -> torch.Tensor:
        seen.append((partial_scans.clone(), torch.is_grad_enabled()))
        return partial_scans[:, :1]

    check_completer(remember, 9)
    ((partial_scans, grad),) = seen
    assert not grad
    assert partial_scans.shape == (2, 2, 9, 9)
    assert float(partial_scans[:, 0].abs().max()) == 0
    assert partial_scans[0, 1].nonzero().tolist() == [[row, column] for row in (0, 4, 8) for column in (0, 4, 8)]


@pytest.mark.parametrize("what", ["policy", "completer"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foo", "got 'foo'; expected package.module:factory"),
        (":a", "got ':a'; expected package.module:factory"),
        ("foo:", "got 'foo:'; expected package.module:factory"),
        (".foo:a", "got '.foo:a'; expected package.module:factory"),
        ("no_such_module:a", "got 'no_such_module:a' (No module named 'no_such_module'); expected package."),
        ("my_plugins:missing", "got 'my_plugins:missing' (module 'my_plugins' has no attribute 'missing'); expected"),
        ("my_plugins:number", "'my_plugins:number' cannot be called; expected a function that makes a "),
        (
            "my_plugins:fails",
            "'my_plugins:fails' raises ValueError (no weights here; my_plugins.py, line 37); expected",
        ),
        (
            "my_broken_plugins:a",
            "'my_broken_plugins' raises ZeroDivisionError (division by zero; my_broken_plugins.py, line 1)",
        ),
        ("my_unreadable_plugins:a", "'my_unreadable_plugins' raises SyntaxError (invalid syntax (my_unread"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(what: str, name: str, message: str) -> None:
    with pytest.raises(SettingError) as refused:
        {"policy": load_policy, "completer": load_completer}[what](name)
    assert str(refused.value).startswith(f"{what}: {message}")
    assert len(str(refused.value).splitlines()) == 1
    assert "; expected " in str(refused.value)


@pytest.mark.parametrize("name", ["object", "WithoutPredict"])
def test_a_policy_without_predict_is_refused(name: str, module: Path) -> None:
    with (module / "my_plugins.py").open("a") as file:
        file.write("\nobject = object\n")
    with pytest.raises(SettingError, match=rf"^policy: got a {name} without predict; expected a policy$"):
        load_policy(f"my_plugins:{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "both_channels",
            "completer 'my_plugins:both_channels': got completions (2, 2, 8, 8); expected (2, 1, 8, 8)",
        ),
        ("an_array", "completer 'my_plugins:an_array': got completions in a ndarray; expected a tensor (2, 1, 8, 8)"),
        ("nowhere_finite", "completer 'my_plugins:nowhere_finite': got non-finite completions; expected finite ones"),
        ("a_number", "completer: 'my_plugins:a_number' makes a int; expected a callable on tensors"),
    ],
)
def test_what_does_not_complete_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingError) as refused:
        load_completer(f"my_plugins:{name}", image_size=8)
    assert str(refused.value) == message


def test_a_completer_that_fails_says_where() -> None:
    assert load_completer("my_plugins:for_another_size")[0] == "for_another_size"  # not tried
    with pytest.raises(SettingError) as refused:
        load_completer("my_plugins:for_another_size", image_size=8)
    assert str(refused.value).startswith("completer 'my_plugins:for_another_size': got RuntimeError (The size of ")
    end = "on partial scans (2, 2, 8, 8)"
    assert f"; my_plugins.py, line 53) {end}; expected completions" in str(refused.value)
    assert load_completer("my_plugins:for_another_size", image_size=7)[0] == "for_another_size"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Raises", "policy 'mine': got KeyError ('picture'; my_plugins.py, line 65) from predict; expected actions"),
        ("Nowhere", "policy 'mine': got actions that are not finite; expected finite ones"),
        ("OneNumber", "policy 'mine': actions have shape (2, 1); expected (2, 2)"),
        ("unknown_setting", "policy 'mine': got TypeError (ScanBatch.__init__() got an unexpected keyword argument"),
        ("another_dose", "policy 'mine': contender 'a': got 20 positions; expected 16"),
    ],
)
def test_a_policy_that_cannot_scan_is_named_in_one_line(factory: str, message: str) -> None:
    made = load_policy(f"my_plugins:{factory}")
    named = replace(made, policy=NamedPolicy("mine", made.policy))
    with pytest.raises(SettingError) as refused:
        check_policy("mine", named, ScanGeometry(16, 4, 4), acquisition="low-dose")
    assert str(refused.value).startswith(message)
    assert "; expected " in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_named_policy_is_what_it_was() -> None:
    class Peeking:
        extra = 3

        def peek(self, crops: object, targets: object) -> None:
            """See everything."""

        def predict(self, observation: object, state: object = None, **settings: object) -> tuple[list[float], object]:
            return [1.0], (state, settings["deterministic"])

    named = NamedPolicy("mine", Peeking())
    actions, state = named.predict({}, state=(), deterministic=True)
    assert (actions.tolist(), state, named.extra) == ([1.0], ((), True), 3)
    assert Contender("a", policy=copy.deepcopy(named)).effective_role == "oracle"
    assert (
        Contender("a", policy=NamedPolicy("b", load_policy("my_plugins:Straight").policy)).effective_role == "adaptive"
    )
