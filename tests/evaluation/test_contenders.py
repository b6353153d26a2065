from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptive_scan.envs import DwellControl
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation import Contender, measure, static_contenders
from adaptive_scan.evaluation.contenders import VALIDATION
from adaptive_scan.micrographs import blur_target
from adaptive_scan.scans import STATIC_SCANS, ScanGeometry, sample, static_scan

GEOMETRY = ScanGeometry(image_size=24, n_segments=5, n_positions=6)


@pytest.fixture
def crops(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (7, 24, 24)).astype(np.float32)


class Turning:
    """Turns by a fixed angle at each segment and notes what it was given; its memory is the count of calls."""

    def __init__(self, turn: float = 0.7) -> None:
        self.turn = turn
        self.seen: list[dict[str, Any]] = []

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        n_scans = len(observation["measured"])
        count = np.zeros(n_scans) if state is None else state[0]
        self.seen.append(
            {
                "observation": {name: array.copy() for name, array in observation.items()},
                "count": count.copy(),
                "episode_start": np.array(episode_start),
                "deterministic": deterministic,
            }
        )
        heading = GEOMETRY.first_heading + self.turn * (count + 1)
        return np.stack([np.cos(heading), np.sin(heading)], axis=1), (count + 1,)


def test_policy_measures_the_path_it_steers_and_the_crop_s_values(crops: np.ndarray) -> None:
    measured = measure(Contender("turning", policy=Turning()), crops, GEOMETRY)
    headings = GEOMETRY.first_heading + 0.7 * np.arange(5)
    expected = GEOMETRY.path(np.broadcast_to(headings, (7, 5))).reshape(7, 30, 2)
    np.testing.assert_allclose(measured.positions, expected, atol=1e-4)
    np.testing.assert_array_equal(measured.values, sample(crops, measured.positions))


def test_policy_keeps_its_memory_and_sees_each_segment_of_its_own_crop(crops: np.ndarray) -> None:
    policy = Turning()
    measured = measure(Contender("turning", policy=policy), crops, GEOMETRY)
    assert [call["count"].tolist() for call in policy.seen] == [[float(step)] * 7 for step in range(4)]
    assert [call["episode_start"].tolist() for call in policy.seen] == [[step == 0] * 7 for step in range(4)]
    assert all(call["deterministic"] for call in policy.seen)
    for step, call in enumerate(policy.seen):
        np.testing.assert_array_equal(call["observation"]["measured"], measured.values[:, 6 * step : 6 * step + 6])


def test_environment_settings_reach_the_policy_s_environment(crops: np.ndarray) -> None:
    class Idle:
        def predict(self, observation: dict[str, np.ndarray], **_: Any) -> tuple[np.ndarray, None]:
            assert observation["partial_scan"].shape == (7, 2, 24, 24)
            return np.zeros((7, 1)), None

    headings = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    environment = {"action_kind": "angle", "reference_headings": headings, "observe_image": True}
    measured = measure(Contender("idle", policy=Idle(), environment=environment), crops, GEOMETRY)
    expected = GEOMETRY.path(np.broadcast_to(headings, (7, 5))).reshape(7, 30, 2)
    np.testing.assert_allclose(measured.positions, expected, atol=1e-4)


@pytest.mark.parametrize("name", sorted(STATIC_SCANS))
def test_every_static_scan_measures_the_dose(name: str, crops: np.ndarray) -> None:
    (contender,) = static_contenders([name])
    measured = measure(contender, crops, GEOMETRY, seed=4)
    assert measured.positions.shape == (7, 30, 2)
    np.testing.assert_array_equal(measured.values, sample(crops, measured.positions))
    same_for_all = bool(np.all(measured.positions == measured.positions[:1]))
    assert same_for_all == (not STATIC_SCANS[name].random)
    assert contender.contiguous == STATIC_SCANS[name].contiguous


def test_random_paths_depend_on_seed_and_crop_alone(crops: np.ndarray) -> None:
    (contender,) = static_contenders(["random"])
    whole = measure(contender, crops, GEOMETRY, seed=4).positions
    part = measure(contender, crops[3:5], GEOMETRY, first_crop=3, seed=4).positions
    np.testing.assert_array_equal(part, whole[3:5])
    assert not np.array_equal(measure(contender, crops, GEOMETRY, seed=5).positions, whole)


def test_fixed_positions_serve_all_crops_or_one_each(crops: np.ndarray, rng: np.random.Generator) -> None:
    paths = rng.uniform(0, 23, (7, 30, 2)).astype(np.float32)
    shared = measure(Contender("shared", path=paths[0]), crops, GEOMETRY)
    np.testing.assert_array_equal(shared.positions, np.broadcast_to(paths[0], (7, 30, 2)))
    own = measure(Contender("own", path=paths), crops[2:5], GEOMETRY, first_crop=2)
    np.testing.assert_array_equal(own.positions, paths[2:5])
    with pytest.raises(ValueError, match=r"'own': got paths for 7 crops; expected one for each of at least 8"):
        measure(Contender("own", path=paths), crops[:3], GEOMETRY, first_crop=5)


@pytest.mark.parametrize("n_positions", [29, 31])
def test_another_dose_is_refused_with_its_figures(n_positions: int, crops: np.ndarray) -> None:
    with pytest.raises(SettingError, match=rf"'cheat': got {n_positions} positions; expected 30"):
        measure(Contender("cheat", path=np.zeros((n_positions, 2))), crops, GEOMETRY)


def test_policy_with_a_geometry_of_another_dose_is_refused(crops: np.ndarray) -> None:
    longer = {"geometry": ScanGeometry(image_size=24, n_segments=5, n_positions=7)}
    with pytest.raises(SettingError, match="'long': got 35 positions; expected 30"):
        measure(Contender("long", policy=Turning(), environment=longer), crops, GEOMETRY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acquisition", "ideal"),
        ("dwell", DwellControl(1e-6, 4e-6, 1e-3)),
        ("completer", "nearest"),
        ("crops", None),
        ("rng", np.random.default_rng(0)),
        ("n_scans", 3),
    ],
)
def test_what_all_contenders_share_no_policy_may_bring(name: str, value: Any) -> None:
    # With an instrument of its own a policy would read without noise what others read with it.
    with pytest.raises(SettingError, match=rf"'own': got environment settings \['{name}'\]; expected none of"):
        Contender("own", policy=Turning(), environment={name: value, "observe_image": True})


def test_no_setting_of_the_environment_takes_the_place_of_the_instrument(crops: np.ndarray) -> None:
    environment: dict[str, Any] = {}
    contender = Contender("late", policy=Turning(), environment=environment)
    environment["acquisition"] = "ideal"
    measured = measure(contender, crops, GEOMETRY, acquisition="low-dose")
    assert not np.array_equal(measured.values, sample(crops, measured.positions))


def test_a_policy_whose_scans_may_stop_early_is_refused(crops: np.ndarray) -> None:
    environment = {"stop_below": 0.1}
    with pytest.raises(SettingError, match=r"'early': got stop_below 0\.1; expected scans of the same number"):
        measure(Contender("early", policy=Turning(), environment=environment), crops, GEOMETRY)
    whole = measure(Contender("whole", policy=Turning(), environment={"stop_below": None}), crops, GEOMETRY)
    assert whole.positions.shape == (7, 30, 2)


class Offset:
    """An instrument that lands one pixel further along the rows and reports half the value, plus noise."""

    value_range = (-1.0, 1.0)

    def displace(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return positions + np.array([1.0, 0.0], dtype=np.float32)

    def detect(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (0.5 * values + 0.1 * rng.uniform(size=values.shape)).astype(np.float32)


def test_paths_and_policies_go_through_the_same_instrument(crops: np.ndarray) -> None:
    contenders = (Contender("turning", policy=Turning()), *static_contenders(["spiral"]))
    for contender in contenders:
        measured = measure(contender, crops, GEOMETRY, acquisition=Offset(), seed=3)
        ideal = sample(crops, measured.positions + np.array([1.0, 0.0], dtype=np.float32))
        noise = measured.values - 0.5 * ideal
        assert noise.min() >= -1e-6
        assert noise.max() <= 0.1 + 1e-6
        assert noise.std() == pytest.approx(0.1 / np.sqrt(12), rel=0.2)
        again = measure(contender, crops, GEOMETRY, acquisition=Offset(), seed=3)
        np.testing.assert_array_equal(again.values, measured.values)


def test_a_path_and_the_policy_that_steers_it_measure_the_same_with_every_fault(crops: np.ndarray) -> None:
    policy = measure(Contender("turning", policy=Turning()), crops, GEOMETRY, acquisition="fast-scan", seed=3)
    fixed = Contender("fixed", path=policy.positions)
    path = measure(fixed, crops, GEOMETRY, acquisition="fast-scan", seed=3)
    np.testing.assert_array_equal(path.values, policy.values)
    assert not np.array_equal(policy.values, sample(crops, policy.positions))
    other = measure(fixed, crops, GEOMETRY, acquisition="fast-scan", seed=4)
    assert not np.array_equal(other.values, path.values)


def test_contender_is_either_a_path_or_a_policy() -> None:
    with pytest.raises(SettingError, match="'a': got neither of path and policy; expected exactly one"):
        Contender("a")
    with pytest.raises(SettingError, match="'a': got both of path and policy"):
        Contender("a", path=np.zeros((3, 2)), policy=Turning())
    with pytest.raises(SettingError, match=r"got a path with environment settings \['geometry'\]"):
        Contender("a", path=np.zeros((3, 2)), environment={"geometry": GEOMETRY})


def test_unknown_static_scan_is_refused() -> None:
    with pytest.raises(SettingError, match=r"got unknown scans \['zigzag'\]; expected names among \[.*'spiral'"):
        static_contenders(["spiral", "zigzag"])
    assert [contender.name for contender in static_contenders()] == list(STATIC_SCANS)


def test_static_contender_is_the_static_scan_itself(crops: np.ndarray) -> None:
    (contender,) = static_contenders(["spiral"])
    expected = static_scan("spiral", 30, 24)
    np.testing.assert_array_equal(measure(contender, crops, GEOMETRY).positions[0], expected)


def test_a_policy_that_only_steers_keeps_the_reference_spacing(rng: np.random.Generator) -> None:
    class Straight:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.tile([1.0, 0.0], (len(observation["measured"]), 1)), None

    geometry = ScanGeometry(24, 3, 4, (0.5, 2.0), start=(2.0, 3.0))
    crops = rng.uniform(-1, 1, (2, 24, 24)).astype(np.float32)
    measured = measure(Contender("straight", policy=Straight()), crops, geometry)
    np.testing.assert_allclose(np.diff(measured.positions[:, 4:, 0], axis=1), 1.0, rtol=1e-5)


def test_roles_are_what_scans_are_by_nature_or_what_they_are_given() -> None:
    path = np.zeros((3, 2))

    class Peeking(Turning):
        def peek(self, crops: np.ndarray, targets: np.ndarray) -> None: ...

    assert Contender("a", path=path).effective_role == "static"
    assert Contender("a", policy=Turning()).effective_role == "adaptive"
    assert Contender("a", policy=Peeking()).effective_role == "oracle"
    assert Contender("a", path=path, role="dense").effective_role == "dense"
    assert Contender("a", policy=Peeking(), role="control").effective_role == "control"
    assert Contender("a", path=np.zeros((2, 3, 2))).effective_role == "control"
    with pytest.raises(SettingError, match=r"'a': got role 'hero'; expected one of \('static', 'adaptive'"):
        Contender("a", path=path, role="hero")
    with pytest.raises(
        SettingError, match="got role 'adaptive' of a policy that peeks at the truth; expected 'oracle'"
    ):
        Contender("a", policy=Peeking(), role="adaptive")


@pytest.mark.parametrize("role", ["static", "dense"])
def test_a_policy_is_neither_static_nor_dense(role: str) -> None:
    with pytest.raises(
        ValueError, match=rf"'a': got role '{role}' of a policy; expected one of \('adaptive', 'oracle'"
    ):
        Contender("a", policy=Turning(), role=role)


def test_paths_do_not_adapt_and_those_made_for_crops_are_controls() -> None:
    for role in ("adaptive", "oracle"):
        with pytest.raises(
            ValueError, match=rf"'a': got role '{role}' of a path; expected one of \('static', 'control'"
        ):
            Contender("a", path=np.zeros((3, 2)), role=role)
    for role in ("static", "dense", "adaptive"):
        with pytest.raises(SettingError, match=rf"'a': got role '{role}' of a path for each crop; expected"):
            Contender("a", path=np.zeros((2, 3, 2)), role=role)
    assert Contender("a", path=np.zeros((2, 3, 2)), role="control").effective_role == "control"


@pytest.mark.parametrize("name", ["spiral", "random"])
def test_crops_to_choose_on_meet_other_faults_and_paths_than_crops_to_test_on(name: str, crops: np.ndarray) -> None:
    (contender,) = static_contenders([name])
    settings: dict[str, Any] = {"acquisition": "low-dose", "seed": 3}
    tested = measure(contender, crops, GEOMETRY, **settings)
    chosen = measure(contender, crops, GEOMETRY, stream=VALIDATION, **settings)
    # Those of the same place in either set must not share their noise.
    noises = [measured.values - sample(crops, measured.positions) for measured in (tested, chosen)]
    assert abs(np.corrcoef(noises[0].ravel(), noises[1].ravel())[0, 1]) < 0.3
    assert np.array_equal(chosen.positions, tested.positions) == (not contender.random)
    again = measure(contender, crops, GEOMETRY, stream=VALIDATION, **settings)
    np.testing.assert_array_equal(again.values, chosen.values)


def test_a_policy_that_peeks_is_shown_the_crops_and_their_targets_before_it_scans(crops: np.ndarray) -> None:
    class Peeking(Turning):
        def peek(self, crops: np.ndarray, targets: np.ndarray) -> None:
            assert not self.seen
            self.truth = crops, targets

    policy = Peeking()
    measured = measure(Contender("peeking", policy=policy), crops, GEOMETRY)
    np.testing.assert_array_equal(policy.truth[0], crops)
    np.testing.assert_array_equal(policy.truth[1], blur_target(crops))
    np.testing.assert_array_equal(
        measured.positions, measure(Contender("turning", policy=Turning()), crops, GEOMETRY).positions
    )
    policy = Peeking()
    measure(Contender("peeking", policy=policy), crops, GEOMETRY, targets=crops)
    np.testing.assert_array_equal(policy.truth[1], crops)
