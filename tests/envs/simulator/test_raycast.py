import copy
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlkit.envs.simulator import raycast
from vlkit.envs.simulator.camera import Camera, Engine, Filtering, Frames, Kind, Shading, frames
from vlkit.envs.simulator.golden import frame_figures, golden_scene, golden_scenes
from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.raster import RasterEngine
from vlkit.envs.simulator.raycast import RayEngine
from vlkit.envs.simulator.scene import SMOOTH, Filters, SceneData, Texture, Wrap
from vlkit.errors import UserError

KINDS: tuple[Kind, ...] = ("rgb", "depth", "semantic", "instance")

SHARP: Filters = ("nearest", "linear", "nearest")


def soup(faces: int, seed: int, wrap: Wrap = "repeat", size_m: float = 1.5) -> SceneData:
    """Triangles anywhere within a few metres, through one another and through the camera."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-4, 4, (faces, 1, 3)) + rng.normal(size=(faces, 3, 3)) * size_m
    textures = tuple(
        Texture(rng.integers(0, 256, (*size, 4), dtype=np.uint8), (wrap, "repeat"), filters)
        for size, filters in (((16, 16), SMOOTH), ((5, 12), SHARP))
    )
    return SceneData(
        name="soup",
        vertices=corners.reshape(-1, 3).astype(np.float32),
        faces=np.arange(3 * faces, dtype=np.int32).reshape(-1, 3),
        uv=rng.uniform(-2, 2, (faces, 3, 2)).astype(np.float32),
        texture=rng.integers(-1, len(textures), faces).astype(np.int32),
        colour=rng.random((faces, 4)).astype(np.float32),
        vertex_colour=rng.integers(0, 256, (3 * faces, 4), dtype=np.uint8),
        double_sided=rng.random(faces) < 0.5,
        instance=np.arange(1, faces + 1, dtype=np.int32),
        semantic=rng.integers(0, 5, faces).astype(np.int32),
        textures=textures,
        categories=("unlabelled", "a", "b", "c", "d"),
    )


def some_poses(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Positions within two metres, and rotations of any kind."""
    rng = np.random.default_rng(seed)
    turns = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    turns *= np.linalg.det(turns)[:, None, None]
    return torch.tensor(rng.uniform(-2, 2, (count, 3)), dtype=torch.float32), torch.tensor(turns, dtype=torch.float32)


def drawn(engine: Engine, camera: Camera, poses: tuple[Tensor, Tensor], scene: int = 0) -> Frames:
    out = frames(camera, KINDS, len(poses[0]), engine.device)
    engine.render(camera, torch.full((len(poses[0]),), scene), poses[0], poses[1].contiguous(), out)
    return out


def disagreements(one: Frames, other: Frames) -> dict[str, float]:
    """Shares of pixels."""
    return {
        "depth": float(((one["depth"] - other["depth"]).abs() > 1e-3).float().mean()),
        "semantic": float((one["semantic"] != other["semantic"]).float().mean()),
        "instance": float((one["instance"] != other["instance"]).float().mean()),
        "rgb": float(((one["rgb"].int() - other["rgb"].int()).abs().amax(dim=-1) > 1).float().mean()),
    }


@given(
    seed=st.integers(0, 10_000),
    faces=st.integers(1, 120),
    filtering=st.sampled_from(["nearest", "bilinear", "trilinear"]),
    shading=st.sampled_from(["flat", "lambert"]),
    cull=st.sampled_from([None, True, False]),
    wrap=st.sampled_from(["repeat", "mirror", "clamp"]),
    hfov=st.floats(30, 150),
)
@settings(max_examples=25)
def test_both_engines_draw_the_same(
    seed: int, faces: int, filtering: Filtering, shading: Shading, cull: bool | None, wrap: Wrap, hfov: float
) -> None:
    scene, poses = soup(faces, seed, wrap), some_poses(2, seed)
    camera = Camera(height=24, width=37, hfov_deg=hfov, near_m=0.05, far_m=20.0)
    raster = RasterEngine([scene], threads=1, filtering=filtering, shading=shading, cull_back_faces=cull)
    ray = RayEngine([scene], device="cpu", filtering=filtering, shading=shading, cull_back_faces=cull)
    apart = disagreements(drawn(raster, camera, poses), drawn(ray, camera, poses))
    pixel = 1 / (2 * 24 * 37)  # one, where a ray passes exactly along an edge or where two faces cross
    assert apart["depth"] <= pixel
    assert apart["instance"] <= pixel
    assert apart["semantic"] <= pixel
    assert apart["rgb"] <= 4 * pixel  # at a texel's border, where rounding decides


def test_over_many_pixels_the_engines_agree_to_one_in_a_hundred_thousand() -> None:
    scene, poses = soup(400, 3, size_m=0.7), some_poses(24, 4)
    camera = Camera(height=96, width=128, hfov_deg=80)
    apart = disagreements(
        drawn(RasterEngine([scene], threads=1), camera, poses), drawn(RayEngine([scene], device="cpu"), camera, poses)
    )
    assert apart["depth"] <= 1e-5
    assert apart["instance"] <= 1e-5
    assert apart["semantic"] <= 1e-5


def test_a_back_that_is_not_seen_hides_nothing_even_where_a_front_touches_it() -> None:
    corners = np.array([[-1, -1, -2], [1, -1, -2], [0, 1, -2]], np.float32)
    scene = soup(3, 0)
    scene = replace(
        scene,
        vertices=np.concatenate([corners[::-1], corners, corners + np.array([0, 0, -1], np.float32)]),
        double_sided=np.zeros(3, bool),
    )
    poses = (torch.zeros(1, 3), torch.eye(3)[None])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        reordered = replace(
            scene, faces=scene.faces[order], instance=scene.instance[order], semantic=scene.semantic[order]
        )
        for engine in (RayEngine([reordered], device="cpu"), RasterEngine([reordered], threads=1)):
            seen = drawn(engine, Camera(height=16, width=16), poses)
            assert seen["instance"][0, 8, 8] == 2
            assert seen["depth"][0, 8, 8] == 2


def test_rays_choose_the_scene_of_each_view_and_see_nothing_without_one() -> None:
    first, second = soup(40, 1), soup(60, 2)
    together, alone = RayEngine([first, second], device="cpu"), RayEngine([second], device="cpu")
    poses, camera = some_poses(4, 5), Camera(height=12, width=18)
    expected = drawn(alone, camera, poses)
    seen = drawn(together, camera, poses, scene=1)
    assert all(torch.equal(seen[kind], expected[kind]) for kind in KINDS)
    nothing = drawn(together, camera, poses, scene=2)
    poses[0][0, 0], poses[1][1, 0, 0] = float("nan"), float("inf")
    lost = drawn(together, camera, poses)
    for kind in KINDS:
        assert (nothing[kind] == 0).all()
        assert (lost[kind][:2] == 0).all()


def test_rays_find_nothing_in_a_scene_without_triangles() -> None:
    scene = soup(5, 0)
    bare = replace(
        scene,
        **{
            name: getattr(scene, name)[:0]
            for name in ("faces", "uv", "texture", "colour", "double_sided", "instance", "semantic")
        },
    )
    assert (drawn(RayEngine([bare], device="cpu"), Camera(8, 8), some_poses(2, 0))["depth"] == 0).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_cuda_the_message_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"torch finds 0 CUDA devices here; use device='cpu'"):
        RayEngine([soup(3, 0)])


@pytest.mark.parametrize("device", ["foo", "mps", "cuda:99"])
def test_a_device_that_rays_cannot_run_on_is_named(device: str) -> None:
    with pytest.raises(UserError, match=f"device .*{device}"):
        RayEngine([soup(3, 0)], device=device)


def test_the_cpu_may_be_numbered() -> None:
    scene, camera, poses = soup(20, 0), Camera(8, 8), some_poses(2, 0)
    numbered, expected = (drawn(RayEngine([scene], device=each), camera, poses) for each in ("cpu:0", "cpu"))
    assert all(torch.equal(numbered[kind], expected[kind]) for kind in KINDS)


def test_threads_of_the_caller_draw_what_one_draws(request: pytest.FixtureRequest) -> None:
    engine = RayEngine([soup(20, 1), soup(30, 2)], device="cpu")
    asked = [(Camera(4 + 4 * (i % 2), 8), some_poses(4, i), i % 2) for i in range(4)]
    expected = [drawn(engine, *each) for each in asked]
    wrong: list[Kind] = []
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)  # so that threads take turns between any two lines

    def work(i: int) -> None:
        for _ in range(500):
            mine = drawn(engine, *asked[i])
            wrong.extend(kind for kind in KINDS if not torch.equal(mine[kind], expected[i][kind]))

    callers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_rays_draw_no_unknown_picture_and_are_not_pickled() -> None:
    engine, (position, rotation) = RayEngine([soup(3, 0)], device="cpu"), some_poses(1, 0)
    out = {"normal": torch.zeros(1, 8, 8)}
    with pytest.raises(ValueError, match="'normal' is no picture that an engine draws"):
        engine.render(Camera(8, 8), torch.zeros(1, dtype=torch.int64), position, rotation, out)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pickle its scenes"):
        copy.copy(engine)


@pytest.mark.skipif(not wp.get_cuda_supported_archs(), reason="Warp was built without CUDA")
def test_the_kernel_compiles_for_cuda_without_a_device(tmp_path: Path) -> None:
    wp.compile_aot_module(raycast, device=None, arch=80, module_dir=tmp_path, use_ptx=True)
    assert any("cast_rays" in file.read_text() for file in tmp_path.glob("*.ptx"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_on_cuda_the_pictures_are_those_of_the_cpu() -> None:
    scene, poses, camera = soup(400, 3, size_m=0.7), some_poses(24, 4), Camera(height=96, width=128, hfov_deg=80)
    engine = RayEngine([scene])
    out = frames(camera, KINDS, 24, engine.device)
    numbers = torch.zeros(24, dtype=torch.int64, device=engine.device)
    engine.render(camera, numbers, poses[0].cuda(), poses[1].contiguous().cuda(), out)
    apart = disagreements(
        drawn(RasterEngine([scene], threads=1), camera, poses), {kind: out[kind].cpu() for kind in KINDS}
    )
    assert max(apart[kind] for kind in ("depth", "instance", "semantic")) <= 1e-5


@pytest.mark.reference
def test_rays_too_see_what_habitat_saw(reference: Path) -> None:
    for folder in golden_scenes(reference / "scenes" / "habitat_golden"):
        engine = RayEngine([golden_scene(folder)], device="cpu", habitat_compatible=True)
        assert all(figure.met for figure in frame_figures(folder, engine))
