"""What both engines share, so that their pictures agree: the arrays on the device, and the C that a pixel runs through.

The C stands in Warp's native functions: its loops over sixteen faces or pixels become vector instructions, which loops
of Warp's own, whose arrays have strides known only when they run, do not. It is C++ that Clang (CPU) and NVRTC (CUDA)
both take.

A ray through a picture is (x, y, 1) in camera coordinates: right, up, ahead. For a triangle with corners a, b, c in
these coordinates, the three numbers ray . (b x c), ray . (c x a), ray . (a x b) have one sign inside of it, wherever
the corners are, behind the camera too, so that nothing needs clipping. With n = (b - a) x (c - a), one over the depth
is ray . n / (a . n), linear in the picture, and so are u and v over the depth.
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from vlkit.envs.simulator.camera import KINDS, Camera, Filtering, Frames, Shading
from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.layout import Layout
from vlkit.errors import UserError

FILTERINGS: dict[Filtering, int] = {"nearest": 0, "bilinear": 1, "trilinear": 2}
SHADINGS: tuple[Shading, ...] = get_args(Shading)
LIGHT = (0.309, 0.927, 0.206)  # where it comes from; walls, floor and ceiling are each of another brightness in it
AMBIENT, DIFFUSE = 0.75, 0.25  # lambert: colour x (AMBIENT + DIFFUSE x cosine between normal and light)
SHARED_CONSTANTS = {
    "LIGHT_X": LIGHT[0],
    "LIGHT_Y": LIGHT[1],
    "LIGHT_Z": LIGHT[2],
    "AMBIENT": AMBIENT,
    "DIFFUSE": DIFFUSE,
}


@wp.struct
class Scenes:
    """`Layout` on a device; what the fields mean stands there."""

    first_cluster: wp.array[wp.int32]
    clusters: wp.array[wp.int32]
    coloured: wp.array[wp.int32]
    boxes: wp.array[wp.float32]
    corners: wp.array[wp.float32]
    double_sided: wp.array[wp.int32]
    uv: wp.array[wp.float32]
    vertex_colour: wp.array[wp.uint32]
    factor: wp.array[wp.uint32]
    semantic: wp.array[wp.int32]
    instance: wp.array[wp.int32]
    texture: wp.array[wp.int32]
    texture_base: wp.array[wp.int32]
    texture_size: wp.array[wp.int32]
    texture_kind: wp.array[wp.int32]
    texels: wp.array[wp.uint32]
    count: int  # scenes


@wp.struct
class Request:
    """One call of `render`. Addresses of tensors, 0 for what is not wanted: wrapping them would take longer than this."""

    scene: wp.uint64  # (views,) int64
    position: wp.uint64  # (views, 3) float32
    rotation: wp.uint64  # (views, 3, 3) float32
    rgb: wp.uint64  # (views, height, width, 3) uint8
    depth: wp.uint64  # (views, height, width) float32
    semantic: wp.uint64  # (views, height, width) int32
    instance: wp.uint64
    width: int
    height: int
    focal: float  # pixels
    near: float  # metres
    far: float
    filtering: int
    lambert: int
    cull: int  # 1: the back of every face is unseen; 0: of those that are not double-sided


def on_device(layout: Layout, device: str) -> Scenes:
    """The arrays, copied there; on the CPU too, aligned as vectors like them."""
    scenes = Scenes()
    for name, value in vars(layout).items():
        if name == "source":
            continue
        flat = np.ascontiguousarray(value).reshape(-1)
        setattr(scenes, name, wp.array(flat, dtype=getattr(wp, flat.dtype.name), device=device))
    scenes.count = len(layout.clusters)
    return scenes


@dataclass(frozen=True)
class DrawingOptions:
    """How an engine draws, in the kernels' numbers."""

    filtering: int
    lambert: bool
    cull: bool


def drawing_options(
    filtering: Filtering | None, shading: Shading, cull_back_faces: bool | None, habitat_compatible: bool
) -> DrawingOptions:
    """What was not chosen is habitat's choice where that is wanted, and else the sensible one."""
    chosen = filtering or ("trilinear" if habitat_compatible else "bilinear")
    if chosen not in FILTERINGS:
        raise UserError(f"filtering is {chosen!r}; expected one of {', '.join(FILTERINGS)}")
    if shading not in SHADINGS:
        raise UserError(f"shading is {shading!r}; expected one of {', '.join(SHADINGS)}")
    cull = habitat_compatible if cull_back_faces is None else cull_back_faces
    return DrawingOptions(FILTERINGS[chosen], shading == "lambert", cull)


def requested(
    camera: Camera,
    options: DrawingOptions,
    scene: Tensor,
    position: Tensor,
    rotation: Tensor,
    out: Frames,
    device: torch.device,
) -> Request:
    """What the kernels are told. Raises ValueError where a tensor is not as `camera.Engine` says."""
    views = len(scene)
    _check("scene", scene, (views,), torch.int64, device)
    _check("position", position, (views, 3), torch.float32, device)
    _check("rotation", rotation, (views, 3, 3), torch.float32, device)
    addresses = {"scene": scene, "position": position, "rotation": rotation}
    for kind, picture in out.items():
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no picture that an engine draws; expected some of {', '.join(KINDS)}")
        dtype, channels = KINDS[kind]
        shape = (views, camera.height, camera.width) + ((channels,) if channels else ())
        _check(kind, picture, shape, dtype, device)
        addresses[kind] = picture
    request = Request()
    for name, tensor in addresses.items():
        setattr(request, name, tensor.data_ptr())
    request.width, request.height, request.focal = camera.width, camera.height, camera.focal
    request.near, request.far = camera.near_m, camera.far_m
    request.filtering, request.lambert, request.cull = options.filtering, int(options.lambert), int(options.cull)
    return request


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    """The kernels are given addresses: what is not so would be read or written astray."""
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device != device or not tensor.is_contiguous():
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
            f"{'' if tensor.is_contiguous() else ', not contiguous'}; expected {shape} {dtype} on {device}"
        )


def code(*fragments: str, **constants: float) -> str:
    """The body of a native function: names like TILE_ROWS become numbers; a product and a sum may become one step."""
    body = "#ifdef __clang__\n#pragma clang fp contract(on)\n#endif\n" + "".join(fragments)
    for name, value in {**SHARED_CONSTANTS, **constants}.items():
        body = body.replace(name, f"{value}f" if isinstance(value, float) else str(value))
    return body


# `camera` holds right, up, ahead and the position, as rows.
CAMERA = r"""
    float camera[12];
    {
        const float* turn = (const float*)request.rotation + 9 * (long long)view;
        const float* at = (const float*)request.position + 3 * (long long)view;
        for (int axis = 0; axis < 3; ++axis) {
            camera[axis] = turn[3 * axis];
            camera[3 + axis] = turn[3 * axis + 1];
            camera[6 + axis] = -turn[3 * axis + 2];
            camera[9 + axis] = at[axis];
        }
    }
    const float focal = request.focal, per_pixel = 1.0f / focal;
    const float centre_x = 0.5f * request.width, centre_y = 0.5f * request.height;
"""

# What a face is in camera coordinates. Products are rounded one by one (no fused multiply-add): only so is b x c exactly
# -(c x b), and two triangles that share an edge leave no pixel out between them.
FACE = r"""
    struct Face {
        float ax, ay, az, bx, by, bz, cx, cy, cz;  // the three edge functions: b x c, c x a, a x b
        float nx, ny, nz, det;  // the plane; det is positive where the front is seen
        float x[3], y[3], d[3];  // the corners: right, up, ahead
    };
    auto face_from = [&](const float* corners, int stride, int first) {
        Face f;
        for (int k = 0; k < 3; ++k) {
            const float wx = corners[first + (3 * k) * stride] - camera[9];
            const float wy = corners[first + (3 * k + 1) * stride] - camera[10];
            const float wz = corners[first + (3 * k + 2) * stride] - camera[11];
            f.x[k] = camera[0] * wx + camera[1] * wy + camera[2] * wz;
            f.y[k] = camera[3] * wx + camera[4] * wy + camera[5] * wz;
            f.d[k] = camera[6] * wx + camera[7] * wy + camera[8] * wz;
        }
        {
#ifdef __clang__
            #pragma clang fp contract(off)
#endif
            f.ax = f.y[1] * f.d[2] - f.d[1] * f.y[2];
            f.ay = f.d[1] * f.x[2] - f.x[1] * f.d[2];
            f.az = f.x[1] * f.y[2] - f.y[1] * f.x[2];
            f.bx = f.y[2] * f.d[0] - f.d[2] * f.y[0];
            f.by = f.d[2] * f.x[0] - f.x[2] * f.d[0];
            f.bz = f.x[2] * f.y[0] - f.y[2] * f.x[0];
            f.cx = f.y[0] * f.d[1] - f.d[0] * f.y[1];
            f.cy = f.d[0] * f.x[1] - f.x[0] * f.d[1];
            f.cz = f.x[0] * f.y[1] - f.y[0] * f.x[1];
        }
        // From differences: far from the camera, the sum of the three edge functions has lost its digits.
        const float px = f.x[1] - f.x[0], py = f.y[1] - f.y[0], pd = f.d[1] - f.d[0];
        const float qx = f.x[2] - f.x[0], qy = f.y[2] - f.y[0], qd = f.d[2] - f.d[0];
        f.nx = py * qd - pd * qy;
        f.ny = pd * qx - px * qd;
        f.nz = px * qy - py * qx;
        f.det = f.nx * f.x[0] + f.ny * f.y[0] + f.nz * f.d[0];
        return f;
    };
"""

# What colouring needs of a face: u, v and one over the depth, and the shares of the second and third corner over the
# depth, each linear in the ray; and the face's colour under the light.
SURFACE = r"""
    struct Surface { float ux, uy, uz, vx, vy, vz, wx, wy, wz, bx, by, bz, cx, cy, cz; };
    auto surface_from = [&](const Face& f, const float* uv) {
        Surface s;
        const float scale = 1.0f / f.det;
        s.wx = f.nx * scale; s.wy = f.ny * scale; s.wz = f.nz * scale;
        s.bx = f.bx * scale; s.by = f.by * scale; s.bz = f.bz * scale;
        s.cx = f.cx * scale; s.cy = f.cy * scale; s.cz = f.cz * scale;
        const float u = uv[0], u1 = uv[2] - u, u2 = uv[4] - u;
        const float v = uv[1], v1 = uv[3] - v, v2 = uv[5] - v;
        s.ux = u * s.wx + u1 * s.bx + u2 * s.cx;
        s.uy = u * s.wy + u1 * s.by + u2 * s.cy;
        s.uz = u * s.wz + u1 * s.bz + u2 * s.cz;
        s.vx = v * s.wx + v1 * s.bx + v2 * s.cx;
        s.vy = v * s.wy + v1 * s.by + v2 * s.cy;
        s.vz = v * s.wz + v1 * s.bz + v2 * s.cz;
        return s;
    };
    auto factor_of = [&](const Face& f, unsigned colour) {  // the face's colour and brightness, ten bits a channel
        // The normal points ahead where the front is seen, since (right, up, ahead) is a left-handed frame.
        const float lx = camera[0] * LIGHT_X + camera[1] * LIGHT_Y + camera[2] * LIGHT_Z;
        const float ly = camera[3] * LIGHT_X + camera[4] * LIGHT_Y + camera[5] * LIGHT_Z;
        const float ld = camera[6] * LIGHT_X + camera[7] * LIGHT_Y + camera[8] * LIGHT_Z;
        const float towards = -(f.nx * lx + f.ny * ly + f.nz * ld);
        const float cosine = towards / sqrtf(f.nx * f.nx + f.ny * f.ny + f.nz * f.nz);
        const float lambert = AMBIENT + DIFFUSE * (f.det < 0.0f ? -cosine : cosine);
        const float scale = (request.lambert ? lambert : 1.0f) * (1023.0f / 255.0f);
        const int red = (int)((float)(int)(colour & 255) * scale + 0.5f);
        const int green = (int)((float)(int)(colour >> 8 & 255) * scale + 0.5f);
        const int blue = (int)((float)(int)(colour >> 16 & 255) * scale + 0.5f);
        return red | green << 10 | blue << 20;
    };
"""

# The colour of a pixel of a surface, in two steps: where in its texture that is, and what stands there. `filtering` is a
# number known when this is compiled.
COLOUR = r"""
    const unsigned* texels = scenes.texels.data;
    struct Colour { float red, green, blue; };
    struct Place { float u, v, spread; };  // spread: texels a pixel, squared
    auto bits_of = [](float number) { union { float number; int bits; } both; both.number = number; return both.bits; };
    // (x, y, 1): the ray; size: width + height * 65536
    auto place_on = [&](const Surface& s, int size, float x, float y, float depth) {
        const float width = (float)(size & 0xffff), height = (float)((unsigned)size >> 16);
        const float u = (s.ux * x + s.uy * y + s.uz) * depth, v = (s.vx * x + s.vy * y + s.vz) * depth;
        const float per_step = depth * per_pixel;
        const float ux = (s.ux - u * s.wx) * width * per_step, vx = (s.vx - v * s.wx) * height * per_step;
        const float uy = (s.uy - u * s.wy) * width * per_step, vy = (s.vy - v * s.wy) * height * per_step;
        const float along_x = ux * ux + vx * vx, along_y = uy * uy + vy * vy;
        return Place{u, v, along_x > along_y ? along_x : along_y};
    };
    auto fold = [](float at, int wrap) {  // into 0 to 1
        const float repeated = at - floorf(at);
        const float in_two = at - 2.0f * floorf(0.5f * at);
        const float mirrored = in_two > 1.0f ? 2.0f - in_two : in_two;
        const float clamped = at < 0.0f ? 0.0f : (at > 1.0f ? 1.0f : at);
        return wrap == 0 ? repeated : (wrap == 1 ? mirrored : clamped);
    };
    struct Level { int first, pitch; float width, height; };  // its texel (0, 0); texels from row to row
    auto level_of = [&](int base, int size, int level) {  // as layout.mip_picture arranges them
        const int width = size & 0xffff, height = (int)((unsigned)size >> 16), pitch = width + (width >> 1) + 5;
        const int wide = width >> level, high = height >> level;
        const int below = 2 * ((height >> 1) - high) + 3 * (level - 1);
        const int first = base + pitch + 1 + (level == 0 ? 0 : width + 2 + below * pitch);
        return Level{first, pitch, (float)(wide > 1 ? wide : 1), (float)(high > 1 ? high : 1)};
    };
    auto nearest_texel = [&](const Level& level, float u, float v) {
        float x = u * level.width, y = v * level.height;
        x = x > 0.0f ? (x < level.width - 1.0f ? x : level.width - 1.0f) : 0.0f;
        y = y > 0.0f ? (y < level.height - 1.0f ? y : level.height - 1.0f) : 0.0f;
        const unsigned texel = texels[level.first + (int)y * level.pitch + (int)x];
        return Colour{(float)(texel & 255), (float)(texel >> 8 & 255), (float)(texel >> 16 & 255)};
    };
    auto two_texels = [&](int at) {
#ifdef __CUDACC__
        return (unsigned long long)texels[at] | (unsigned long long)texels[at + 1] << 32;
#else
        typedef unsigned long long __attribute__((aligned(4), may_alias)) Two;  // half as many loads
        return *(const Two*)(texels + at);
#endif
    };
    auto four_texels = [&](const Level& level, float u, float v, int nearest) {  // nearest: the one texel's centre
        float at_x = u * level.width - 0.5f, at_y = v * level.height - 0.5f;
        const float its_x = floorf(at_x + 0.5f), its_y = floorf(at_y + 0.5f);
        at_x = nearest ? (its_x < level.width - 1.0f ? its_x : level.width - 1.0f) : at_x;
        at_y = nearest ? (its_y < level.height - 1.0f ? its_y : level.height - 1.0f) : at_y;
        at_x = at_x > -0.5f ? at_x : -0.5f;  // so that what is no number stays in the pool
        at_y = at_y > -0.5f ? at_y : -0.5f;
        const float low_x = floorf(at_x), low_y = floorf(at_y);
        const float right = at_x - low_x, down = at_y - low_y;
        const int at = level.first + (int)low_y * level.pitch + (int)low_x;
        const unsigned long long above = two_texels(at), below = two_texels(at + level.pitch);
        const unsigned a = (unsigned)above, b = (unsigned)(above >> 32);
        const unsigned c = (unsigned)below, d = (unsigned)(below >> 32);
        auto mixed = [&](int shift) {
            const float left_above = (float)(int)(a >> shift & 255), right_above = (float)(int)(b >> shift & 255);
            const float left_below = (float)(int)(c >> shift & 255), right_below = (float)(int)(d >> shift & 255);
            const float upper = left_above + (right_above - left_above) * right;
            const float lower = left_below + (right_below - left_below) * right;
            return upper + (lower - upper) * down;
        };
        return Colour{mixed(0), mixed(8), mixed(16)};
    };
    // texture: levels - 1; how it goes on beyond 0 and 1 in bits 4 and 6; in bits 8 to 11 whether it asks for the nearest
    // texel seen large, seen small, for the nearest mip level, and for the first level alone. The last two are heeded by
    // trilinear filtering, which is what a file's samplers speak of.
    auto texture_colour = [&](auto filtering, int base, int size, int texture, float at_u, float at_v, float spread) {
        const int last = filtering.value == 2 && (texture >> 11 & 1) ? 0 : texture & 15;
        const int nearest = texture >> (spread > 1.0f ? 9 : 8) & 1;
        const float u = fold(at_u, texture >> 4 & 3), v = fold(at_v, texture >> 6 & 3);
        if (filtering.value < 2) {  // the level is half the logarithm of `spread` to the base of two, rounded
            int level = ((bits_of(2.0f * spread) >> 23) - 127) >> 1;
            level = level < 0 ? 0 : (level > last ? last : level);
            const Level chosen = level_of(base, size, level);
            return filtering.value == 0 ? nearest_texel(chosen, u, v) : four_texels(chosen, u, v, nearest);
        }
        const int bits = bits_of(spread);
        union { int bits; float number; } mantissa;
        mantissa.bits = (bits & 0x7fffff) | 0x3f800000;
        const float m = mantissa.number - 1.0f;  // log2(1 + m), within 2e-5
        const float log_m = m * (1.441966f + m * (-0.709663f + m * (0.417595f + m * (-0.196269f + m * 0.046385f))));
        float level = 0.5f * ((float)((bits >> 23) - 127) + log_m);
        level = level > 0.0f ? (level < (float)last ? level : (float)last) : 0.0f;
        const int fine = (int)level, coarse = fine < last ? fine + 1 : last;
        const float mixed = level - (float)fine;
        const float share = texture >> 10 & 1 ? floorf(mixed + 0.5f) : mixed;
        const Colour near_colour = four_texels(level_of(base, size, fine), u, v, nearest);
        const Colour far_colour = four_texels(level_of(base, size, coarse), u, v, nearest);
        return Colour{near_colour.red + (far_colour.red - near_colour.red) * share,
                      near_colour.green + (far_colour.green - near_colour.green) * share,
                      near_colour.blue + (far_colour.blue - near_colour.blue) * share};
    };
    // The colours of the three corners mixed, 0 to 1
    auto corner_colour = [&](const Surface& s, unsigned at_a, unsigned at_b, unsigned at_c, float x, float y,
                             float depth) {
        const float b = (s.bx * x + s.by * y + s.bz) * depth, c = (s.cx * x + s.cy * y + s.cz) * depth;
        auto mixed = [&](int shift) {
            const float value = (float)(int)(at_a >> shift & 255) * (1.0f - b - c) + (float)(int)(at_b >> shift & 255) * b
                              + (float)(int)(at_c >> shift & 255) * c;
            const float scaled = value * (1.0f / 255.0f);
            return scaled < 0.0f ? 0.0f : (scaled > 1.0f ? 1.0f : scaled);
        };
        return Colour{mixed(0), mixed(8), mixed(16)};
    };
    // A face's colour and brightness, ten bits a channel, times the texture's and the corners'
    auto final_colour = [&](const Colour& texture, int factor, const Colour& corners) {
        const float step = 1.0f / 1023.0f;
        const int red = (int)(texture.red * ((float)(factor & 1023) * step) * corners.red + 0.5f);
        const int green = (int)(texture.green * ((float)(factor >> 10 & 1023) * step) * corners.green + 0.5f);
        const int blue = (int)(texture.blue * ((float)(factor >> 20 & 1023) * step) * corners.blue + 0.5f);
        return red | green << 8 | blue << 16;
    };
    struct Nearest { enum { value = 0 }; };
    struct Bilinear { enum { value = 1 }; };
    struct Trilinear { enum { value = 2 }; };
"""
