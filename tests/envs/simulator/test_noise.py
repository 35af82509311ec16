import pytest
import torch

from vlkit.envs.simulator.noise import GaussianDepth, GaussianMotion, RedwoodDepth, Streams
from vlkit.errors import UserError

ENVS = 8


def streams(seed: int = 0, step: int = 0, envs: int = ENVS) -> Streams:
    return Streams(seed=torch.arange(envs) + seed, step=torch.full((envs,), step))


def test_gaussian_noise_has_the_share_asked_for_and_is_independent_from_pixel_to_pixel_env_to_env_and_step_to_step() -> (
    None
):
    depth = torch.full((ENVS, 64, 64), 4.0)
    numbers = (GaussianDepth(share=0.1)(depth, streams()) / 4 - 1) / 0.1
    later = (GaussianDepth(share=0.1)(depth, streams(step=1)) / 4 - 1) / 0.1
    assert abs(float(numbers.mean())) < 0.02
    assert abs(float(numbers.std()) - 1) < 0.02
    assert abs(float((numbers**4).mean()) - 3) < 0.2
    for one, other in (
        (numbers[:, :, 1:], numbers[:, :, :-1]),
        (numbers[:, 1:], numbers[:, :-1]),
        (numbers[1:], numbers[:-1]),
        (numbers, later),
    ):
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.02


@pytest.mark.parametrize("noise", [GaussianDepth(), RedwoodDepth()])
def test_what_an_environment_gets_does_not_depend_on_its_batch(noise: GaussianDepth | RedwoodDepth) -> None:
    depth = torch.rand(ENVS, 2, 16, 24) * 9 + 0.5
    whole = noise(depth, streams(seed=5))
    alone = noise(depth[3:4], Streams(seed=torch.tensor([8]), step=torch.tensor([0])))
    torch.testing.assert_close(whole[3:4], alone, rtol=0, atol=0)
    assert not torch.equal(whole, noise(depth, streams(seed=6)))


def test_where_nothing_was_hit_there_is_no_depth_after_noise_either() -> None:
    nothing = torch.zeros(ENVS, 8, 8)
    assert float(GaussianDepth()(nothing, streams()).abs().max()) == 0
    assert float(RedwoodDepth()(nothing, streams()).abs().max()) == 0


def test_a_redwood_camera_sees_eighths_of_disparity_frays_edges_and_ends_at_ten_metres() -> None:
    camera = RedwoodDepth()
    wall = camera(torch.full((ENVS, 32, 32), 5.0), streams())
    eighths = camera.baseline_focal / wall * 8
    torch.testing.assert_close(eighths, eighths.round(), rtol=0, atol=1e-3)
    assert abs(float(wall.mean()) - 5) < 0.1
    edge = torch.full((ENVS, 32, 32), 2.0)
    edge[:, :, 16:] = 6.0
    seen = camera(edge, streams())
    assert (seen[:, :, 12] < 3).all()
    assert (seen[:, :, 20] > 5).all()
    assert (seen[:, :, 15] > 5).any()
    assert (seen[:, :, 16] < 3).any()
    assert float(camera(torch.full((ENVS, 4, 4), 12.0), streams()).max()) == 0
    exact = RedwoodDepth(strength=0.0)(edge, streams())
    assert float((exact - edge).abs().max()) < 0.15


def test_noisy_motion_scatters_about_the_wish_and_standing_still_is_exact() -> None:
    many = 20_000
    forward = torch.full((many,), 0.25)
    ahead, aside, turned = GaussianMotion(share=0.1, drift=0.05)(forward, torch.zeros(many), streams(envs=many))
    assert abs(float(ahead.mean()) - 0.25) < 1e-3
    assert abs(float(ahead.std()) - 0.025) < 1e-3
    assert abs(float(aside.std()) - 0.0125) < 1e-3
    assert abs(float(turned.std()) - 0.05) < 2e-3
    still = GaussianMotion()(torch.zeros(4), torch.zeros(4), streams(envs=4))
    assert all(float(part.abs().max()) == 0 for part in still)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: GaussianDepth(share=2.0), "a share of 2.0; expected 0 to 1"),
        (lambda: RedwoodDepth(far_m=0.0), "expected lengths above 0"),
        (lambda: GaussianMotion(drift=-0.1), "expected shares from 0 to 1"),
    ],
)
def test_noise_that_cannot_be_is_refused(made: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made()  # type: ignore[operator]
