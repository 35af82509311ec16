"""The engine of CUDA: one thread casts one pixel's ray into a tree of boxes. It runs on the CPU too, slowly.

What a face looks like at a pixel, and its depth there, come from the same C as the rasteriser's (see pixels), so the
two engines agree.
"""

# Warp reads the bodies and types of kernels its own way.

import threading
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from vlkit.envs.devices import present
from vlkit.envs.simulator.camera import Camera, Filtering, Frames, Shading
from vlkit.envs.simulator.forks import PerProcess
from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.layout import Layout, lay_out
from vlkit.envs.simulator.pixels import (
    CAMERA,
    COLOUR,
    FACE,
    SURFACE,
    Request,
    Scenes,
    code,
    drawing_options,
    on_device,
    requested,
)
from vlkit.envs.simulator.scene import SceneData

wp.set_module_options({"enable_backward": False})


@wp.struct
class Trees:
    """Of each scene: its mesh in Warp, 0 where it has no face, and where its faces' numbers begin."""

    mesh: wp.array[wp.uint64]  # (scenes,)
    first: wp.array[wp.int32]  # (scenes,) into `face`
    face: wp.array[wp.int32]  # (faces,) by the mesh's number: the layout's


@wp.func_native(
    code(
        CAMERA,
        r"""
    const float ray_x = ((float)column + 0.5f - centre_x) * per_pixel;
    const float ray_y = (centre_y - 0.5f - (float)row) * per_pixel;
    return wp::vec3(camera[0] * ray_x + camera[3] * ray_y + camera[6], camera[1] * ray_x + camera[4] * ray_y + camera[7],
                    camera[2] * ray_x + camera[5] * ray_y + camera[8]);
""",
    )
)
def direction(request: Request, view: wp.int32, row: wp.int32, column: wp.int32) -> wp.vec3:
    """The pixel's ray, of length 1 along the optical axis, so that a distance along it is a depth."""


@wp.func_native(
    r"""
    const float* at = (const float*)request.position + 3 * (long long)view;
    return wp::vec3(at[0], at[1], at[2]);
"""
)
def origin(request: Request, view: wp.int32) -> wp.vec3:
    """The pinhole."""


@wp.func_native(
    r"""
    const long long scene = ((const long long*)request.scene)[view];
    return scene < 0 || scene >= scenes.count ? -1 : (int)scene;
"""
)
def scene_of(scenes: Scenes, request: Request, view: wp.int32) -> int:
    """-1 where there is none of that number."""


# As the rasteriser decides whether a pixel belongs to a face.
@wp.func_native(
    code(
        CAMERA,
        FACE,
        r"""
    const Face f = face_from(scenes.corners.data, 16, (face >> 4) * 144 + (face & 15));
    if (!(f.det > 0.0f) && !(f.det < 0.0f && scenes.double_sided.data[face] && !request.cull)) return -1.0f;
    const float ray_x = ((float)column + 0.5f - centre_x) * per_pixel;
    const float ray_y = (centre_y - 0.5f - (float)row) * per_pixel;
    if (test_edges) {
        const float sign = f.det < 0.0f ? -1.0f : 1.0f;
        if (sign * (f.ax * ray_x + (f.ay * ray_y + f.az)) < 0.0f || sign * (f.bx * ray_x + (f.by * ray_y + f.bz)) < 0.0f
            || sign * (f.cx * ray_x + (f.cy * ray_y + f.cz)) < 0.0f)
            return -1.0f;
    }
    const float scale = 1.0f / f.det;
    const float w = f.nx * scale * ray_x + (f.ny * scale * ray_y + f.nz * scale);
    return w > 1.0f / request.far && w <= 1.0f / request.near ? w : (test_edges ? -1.0f : 0.0f);
""",
    )
)
def inverse_depth(
    scenes: Scenes,
    request: Request,
    view: wp.int32,
    row: wp.int32,
    column: wp.int32,
    face: wp.int32,
    test_edges: wp.int32,
) -> float:
    """One over the depth of the face's plane at the pixel; 0 where that is out of range, -1 where it is not seen."""


@wp.func_native(
    code(
        CAMERA,
        FACE,
        SURFACE,
        COLOUR,
        r"""
    const long long pixel = ((long long)view * request.height + row) * request.width + column;
    const float depth = face < 0 ? 0.0f : 1.0f / w;
    if (request.depth) ((float*)request.depth)[pixel] = depth < request.far ? depth : request.far;
    if (request.semantic) ((int*)request.semantic)[pixel] = face < 0 ? 0 : scenes.semantic.data[face];
    if (request.instance) ((int*)request.instance)[pixel] = face < 0 ? 0 : scenes.instance.data[face];
    if (!request.rgb) return;
    unsigned char* out = (unsigned char*)request.rgb + 3 * pixel;
    int colour = 0;
    if (face >= 0) {
        const Face f = face_from(scenes.corners.data, 16, (face >> 4) * 144 + (face & 15));
        const Surface surface = surface_from(f, scenes.uv.data + 6 * (long long)face);
        const int texture = scenes.texture.data[face];
        const int base = scenes.texture_base.data[texture], size = scenes.texture_size.data[texture];
        const int kind = scenes.texture_kind.data[texture];
        const float ray_x = ((float)column + 0.5f - centre_x) * per_pixel;
        const float ray_y = (centre_y - 0.5f - (float)row) * per_pixel;
        const Place place = place_on(surface, size, ray_x, ray_y, depth);
        Colour corners{1.0f, 1.0f, 1.0f};
        if (scenes.coloured.data[scene]) {
            const unsigned* at = scenes.vertex_colour.data + 3 * (long long)face;
            corners = corner_colour(surface, at[0], at[1], at[2], ray_x, ray_y, depth);
        }
        Colour shown{0.0f, 0.0f, 0.0f};
        if (request.filtering == 0)
            shown = texture_colour(Nearest(), base, size, kind, place.u, place.v, place.spread);
        else if (request.filtering == 1)
            shown = texture_colour(Bilinear(), base, size, kind, place.u, place.v, place.spread);
        else
            shown = texture_colour(Trilinear(), base, size, kind, place.u, place.v, place.spread);
        colour = final_colour(shown, factor_of(f, scenes.factor.data[face]), corners);
    }
    out[0] = colour;
    out[1] = colour >> 8;
    out[2] = colour >> 16;
""",
    )
)
def write_pixel(
    scenes: Scenes,
    request: Request,
    view: wp.int32,
    row: wp.int32,
    column: wp.int32,
    scene: wp.int32,
    face: wp.int32,
    w: wp.float32,
) -> None:
    """All that was asked for; `face` is -1 where nothing is seen, `w` one over the depth."""


@wp.kernel
def cast_rays(scenes: Scenes, trees: Trees, request: Request) -> None:
    """One pixel. Thirty-two neighbours, which CUDA runs in step, are a tile of eight by four: their rays stay together."""
    view, tile, lane = wp.tid()
    across = (request.width + 7) // 8
    row = tile // across * 4 + lane // 8
    column = tile % across * 8 + lane % 8
    if row >= request.height or column >= request.width:
        return
    face = wp.int32(-1)
    best = wp.float32(0.0)
    start = origin(request, view)
    ray = direction(request, view, row, column)
    scene = scene_of(scenes, request, view)
    mesh = wp.uint64(0)
    if scene >= 0 and wp.isfinite(start) and wp.isfinite(ray):
        mesh = trees.mesh[scene]
    if mesh != wp.uint64(0):
        first = trees.first[scene]
        hit = wp.mesh_query_ray(mesh, start + ray * request.near, ray, request.far - request.near)
        if hit.result:
            number = trees.face[first + hit.face]
            w = inverse_depth(scenes, request, view, row, column, number, 0)
            if w >= 0.0:
                face = number
                best = w
                if w == 0.0:  # seen at so flat an angle that the plane's depth is nothing: take the ray's
                    best = 1.0 / (hit.t + request.near)
            else:  # a back that is not seen; what is seen behind it may touch it, so look among all
                query = wp.bvh_query_ray(wp.mesh_get_bvh(mesh), start, ray)
                candidate = wp.int32(0)
                while wp.bvh_query_next(query, candidate, request.far):
                    other = trees.face[first + candidate]
                    w = inverse_depth(scenes, request, view, row, column, other, 1)
                    if w > best:
                        best = w
                        face = other
    write_pixel(scenes, request, view, row, column, scene, face, best)


class RayEngine:
    """Draws on `device`, by rays; the other arguments and the pictures are those of `raster.RasterEngine`.

    Threads of the caller may share an engine, and on the CPU draw one after the other. A process that is forked may go on
    with its parent's on the CPU; CUDA itself does not outlive a fork.
    """

    def __init__(
        self,
        scenes: Sequence[SceneData],
        *,
        device: str = "cuda",
        filtering: Filtering | None = None,
        shading: Shading = "flat",
        cull_back_faces: bool | None = None,
        habitat_compatible: bool = False,
    ) -> None:
        self.device = present(device)
        self.layout = lay_out(scenes)
        self.options = drawing_options(filtering, shading, cull_back_faces, habitat_compatible)
        self._scenes = on_device(self.layout, str(self.device))
        self._trees, self._meshes = _trees(self.layout, str(self.device))
        self._launch: wp.Launch | None = None
        self._drawing = PerProcess(threading.Lock)  # held by whoever uses the launch

    def __getstate__(self) -> NoReturn:
        raise TypeError("an engine has a device's memory; pickle its scenes and make one of them again")

    @property
    def bytes(self) -> int:
        """Of the scenes, and of the trees by an estimate: 36 a corner and two boxes of 16 a face."""
        return self.layout.bytes + 68 * int((self.layout.source >= 0).sum())

    def render(self, camera: Camera, scene: Tensor, position: Tensor, rotation: Tensor, out: Frames) -> None:
        """Draws each view into row i of the tensors in `out`, as `camera.Engine` says."""
        if len(scene) == 0 or not out:
            return
        request = requested(camera, self.options, scene, position, rotation, out, self.device)
        tiles = -(-camera.height // 4) * -(-camera.width // 8)
        with self._drawing():
            if self._launch is None:
                inputs, device = [self._scenes, self._trees, request], str(self.device)
                self._launch = wp.launch(cast_rays, dim=(1, 1, 1), inputs=inputs, device=device, record_cmd=True)
            self._launch.set_param_at_index(2, request)
            self._launch.set_dim((len(scene), tiles, 32))
            if self.device.type == "cuda":  # after what PyTorch has queued, and before what it will queue
                self._launch.launch(stream=wp.stream_from_torch(torch.cuda.current_stream(self.device)))
            else:
                self._launch.launch()


def _trees(layout: Layout, device: str) -> tuple[Trees, list[wp.Mesh]]:
    """The trees, and the meshes, which live as long as somebody keeps them."""
    meshes: list[wp.Mesh] = []
    ids, firsts, numbers, count = [], [], [], 0
    corners = layout.corners.transpose(0, 2, 1).reshape(-1, 3, 3)
    for first_cluster, clusters in zip(layout.first_cluster, layout.clusters, strict=True):
        begin, end = 16 * first_cluster, 16 * (first_cluster + clusters)
        faces = begin + np.flatnonzero(layout.source[begin:end] >= 0)
        firsts.append(count)
        count += len(faces)
        numbers.append(faces)
        if not len(faces):
            ids.append(0)
            continue
        points = wp.array(corners[faces].reshape(-1, 3), dtype=wp.vec3, device=device)
        indices = wp.array(np.arange(3 * len(faces), dtype=np.int32), dtype=wp.int32, device=device)
        # Built once and looked through billions of times: the slower way of building it, on CUDA too.
        meshes.append(wp.Mesh(points=points, indices=indices, bvh_constructor="sah"))
        ids.append(meshes[-1].id)
    trees = Trees()
    trees.mesh = wp.array(np.array(ids, np.uint64), dtype=wp.uint64, device=device)
    trees.first = wp.array(np.array(firsts, np.int32), dtype=wp.int32, device=device)
    trees.face = wp.array(np.concatenate(numbers).astype(np.int32), dtype=wp.int32, device=device)
    return trees, meshes
