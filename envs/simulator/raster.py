"""The engine of the CPU: a visibility buffer, filled front to back, coloured once.

One thread draws one view. Clusters of sixteen faces are thrown away where they lie outside the picture or behind what
is drawn already (the farthest depth of each 16 by 8 tile is known), the rest drawn nearest first. Each pixel keeps one
over its depth and the number of the face seen there, and only at the end is it coloured. Sixteen faces, pixels or
clusters go through each step at once.
"""

# Warp reads the bodies and types of kernels its own way.

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from vlkit.envs.simulator.camera import Camera, Filtering, Frames, Shading
from vlkit.envs.simulator.forks import PerProcess
from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.layout import LANES, Layout, lay_out
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
from vlkit.errors import UserError
from vlkit.processes import cores

wp.set_module_options({"enable_backward": False})

TILE_ROWS = 8
BUCKETS = 64  # of nearest depths, four to each doubling from 1 cm on


@wp.struct
class Scratch:
    """What one thread needs to draw, the same for every view."""

    inverse_depth: wp.array[wp.float32]  # (height, stride), rows filled up to a multiple of sixteen
    slot: wp.array[wp.int32]  # (height, stride), into `faces`; 0 where nothing is seen
    tile_far: wp.array[wp.float32]  # (tiles,) least inverse depth of each
    tile_changed: wp.array[wp.int32]  # (tiles,) whether that must be looked up again
    cluster: wp.array[wp.int32]  # (clusters,) those in the picture
    nearest: wp.array[wp.float32]  # (clusters,) their greatest inverse depth
    columns: wp.array[wp.int32]  # (clusters,) tiles they touch: first + last * 65536
    rows: wp.array[wp.int32]  # (clusters,) as columns
    order: wp.array[wp.int32]  # (clusters,) front to back
    faces: wp.array[wp.int32]  # (slots,) those that were seen at some pixel
    moved: wp.array[wp.int32]  # (slots,) while slots are sorted out
    used: wp.array[wp.int32]  # (1,) slots
    surfaces: wp.array[wp.float32]  # (slots, 15), as pixels.SURFACE orders them
    details: wp.array[wp.int32]  # (slots, 4) texture's base, size and kind, and what factor_of returned
    slots: int
    stride: int


@wp.func_native(
    code(
        r"""
    const float far = 1.0f / request.far;
    for (int y = 0; y < request.height; ++y) {
        float* inverse_depth = scratch.inverse_depth.data + y * scratch.stride;
        int* slot = scratch.slot.data + y * scratch.stride;
        for (int x = 0; x < scratch.stride; ++x) inverse_depth[x] = x < request.width ? far : 1e30f;
        for (int x = 0; x < scratch.stride; ++x) slot[x] = 0;
    }
    const int tiles = (scratch.stride >> 4) * ((request.height + TILE_ROWS - 1) / TILE_ROWS);
    for (int tile = 0; tile < tiles; ++tile) scratch.tile_far.data[tile] = far;
    for (int tile = 0; tile < tiles; ++tile) scratch.tile_changed.data[tile] = 0;
    scratch.faces.data[0] = -1;
    scratch.used.data[0] = 1;
""",
        TILE_ROWS=TILE_ROWS,
    )
)
def clear(request: Request, scratch: Scratch) -> None:
    """Nothing is seen yet."""


@wp.func_native(
    code(
        CAMERA,
        r"""
    const long long scene = ((const long long*)request.scene)[view];
    if (scene < 0 || scene >= scenes.count) return 0;
    const float tan_x = centre_x * per_pixel, tan_y = centre_y * per_pixel;
    // Normals of the four sides, inwards: right + tan * ahead and so on. A box lies outside if all of it is behind one.
    float side[12];
    for (int axis = 0; axis < 3; ++axis) {
        side[axis] = camera[axis] + tan_x * camera[6 + axis];
        side[3 + axis] = -camera[axis] + tan_x * camera[6 + axis];
        side[6 + axis] = camera[3 + axis] + tan_y * camera[6 + axis];
        side[9 + axis] = -camera[3 + axis] + tan_y * camera[6 + axis];
    }
    int in_bucket[BUCKETS];
    for (int bucket = 0; bucket < BUCKETS; ++bucket) in_bucket[bucket] = 0;
    auto bucket_of = [](float inverse_depth) {  // four to an octave, from a centimetre on
        union { float number; int bits; } depth;
        depth.number = 1.0f / inverse_depth;
        const int bucket = (depth.bits >> 21) - ((127 - 7) << 2);
        return bucket < 0 ? 0 : (bucket >= BUCKETS ? BUCKETS - 1 : bucket);
    };
    const int first = scenes.first_cluster.data[scene];
    const int blocks = scenes.clusters.data[scene] >> 4;
    const int last_column = (request.width - 1) >> 4, last_row = (request.height - 1) / TILE_ROWS;
    int seen = 0;
    for (int block = 0; block < blocks; ++block) {
        const float* box = scenes.boxes.data + ((first >> 4) + block) * 96;
        int inside[16], columns[16], rows[16];
        float nearest[16];
        #pragma clang loop vectorize(assume_safety)
        for (int i = 0; i < 16; ++i) {
            const float cx = box[i] - camera[9], cy = box[16 + i] - camera[10], cz = box[32 + i] - camera[11];
            const float hx = box[48 + i], hy = box[64 + i], hz = box[80 + i];
            auto along = [&](const float* n) { return n[0] * cx + n[1] * cy + n[2] * cz; };
            auto reach = [&](const float* n) { return fabsf(n[0]) * hx + fabsf(n[1]) * hy + fabsf(n[2]) * hz; };
            const float ahead = along(camera + 6), half = reach(camera + 6);
            const float low = ahead - half, high = ahead + half;
            int seen_here = (high >= request.near) & (low <= request.far);
            for (int k = 0; k < 4; ++k) seen_here &= along(side + 3 * k) + reach(side + 3 * k) >= 0.0f;
            inside[i] = seen_here;
            const int close = low < request.near;
            nearest[i] = close ? 1e30f : 1.0f / low;
            const float x = along(camera), half_x = reach(camera), y = along(camera + 3), half_y = reach(camera + 3);
            const float near_scale = focal / low, far_scale = focal / high;
            const float x0 = x - half_x, x1 = x + half_x, y0 = -y - half_y, y1 = -y + half_y;
            auto tiles_of = [&](float low_edge, float high_edge, float centre, float tile, int last) {
                float a = (low_edge * (low_edge < 0.0f ? near_scale : far_scale) + centre - 0.6f) * tile;
                float b = (high_edge * (high_edge > 0.0f ? near_scale : far_scale) + centre - 0.4f) * tile;
                a = a > 0.0f ? a : 0.0f;
                b = b < (float)last ? b : (float)last;
                b = b > 0.0f ? b : 0.0f;
                const int begin = close ? 0 : (int)(a < (float)last ? a : (float)last), end = close ? last : (int)b;
                return begin | end << 16;
            };
            columns[i] = tiles_of(x0, x1, centre_x, 1.0f / 16.0f, last_column);
            rows[i] = tiles_of(y0, y1, centre_y, 1.0f / TILE_ROWS, last_row);
        }
        for (int i = 0; i < 16; ++i) {
            if (!inside[i]) continue;
            scratch.cluster.data[seen] = first + block * 16 + i;
            scratch.nearest.data[seen] = nearest[i];
            scratch.columns.data[seen] = columns[i];
            scratch.rows.data[seen] = rows[i];
            ++in_bucket[bucket_of(nearest[i])];
            ++seen;
        }
    }
    int begin = 0;
    for (int bucket = 0; bucket < BUCKETS; ++bucket) {
        const int size = in_bucket[bucket];
        in_bucket[bucket] = begin;
        begin += size;
    }
    for (int i = 0; i < seen; ++i) scratch.order.data[in_bucket[bucket_of(scratch.nearest.data[i])]++] = i;
    return seen;
""",
        TILE_ROWS=TILE_ROWS,
        BUCKETS=BUCKETS,
    )
)
def cull(scenes: Scenes, request: Request, scratch: Scratch, view: wp.int32) -> int:
    """How many clusters reach into the picture; `scratch.order` has them front to back."""


@wp.func_native(
    code(
        r"""
    const int number = scratch.order.data[place];
    // The corners of a cluster that comes soon are asked for now: they seldom are in the cache.
    const int soon = scratch.cluster.data[scratch.order.data[place + 4 < clusters ? place + 4 : place]];
    for (int line = 0; line < 9; ++line) __builtin_prefetch(scenes.corners.data + (long long)soon * 144 + 16 * line);
    const int columns = scratch.columns.data[number], rows = scratch.rows.data[number];
    const float nearest = scratch.nearest.data[number];
    const int across = scratch.stride >> 4;
    for (int row = rows & 0xffff; row <= rows >> 16; ++row) {
        for (int column = columns & 0xffff; column <= columns >> 16; ++column) {
            const int tile = row * across + column;
            if (scratch.tile_changed.data[tile]) {
                scratch.tile_changed.data[tile] = 0;
                const int last = (row + 1) * TILE_ROWS < request.height ? (row + 1) * TILE_ROWS : request.height;
                const float* at = scratch.inverse_depth.data + row * TILE_ROWS * scratch.stride + column * 16;
                float least[16];
                for (int i = 0; i < 16; ++i) least[i] = at[i];
                for (int y = row * TILE_ROWS + 1; y < last; ++y) {
                    at += scratch.stride;
                    for (int i = 0; i < 16; ++i) least[i] = at[i] < least[i] ? at[i] : least[i];
                }
                for (int half = 8; half > 0; half >>= 1)
                    for (int i = 0; i < half; ++i) least[i] = least[i + half] < least[i] ? least[i + half] : least[i];
                scratch.tile_far.data[tile] = least[0];
            }
            if (scratch.tile_far.data[tile] < nearest) return 0;
        }
    }
    return 1;
""",
        TILE_ROWS=TILE_ROWS,
    )
)
def hidden(scenes: Scenes, request: Request, scratch: Scratch, place: wp.int32, clusters: wp.int32) -> int:
    """Whether the cluster at that place of the order lies behind every pixel of the tiles it touches."""


@wp.func_native(
    code(
        CAMERA,
        FACE,
        r"""
    if (scratch.used.data[0] + 16 > scratch.slots) {  // keep those that are still seen: never more than pixels
        int* moved = scratch.moved.data;
        int* faces = scratch.faces.data;
        for (int i = 0; i < scratch.used.data[0]; ++i) moved[i] = 0;
        for (int y = 0; y < request.height; ++y)
            for (int x = 0; x < request.width; ++x) moved[scratch.slot.data[y * scratch.stride + x]] = 1;
        int kept = 1;
        moved[0] = 0;
        for (int i = 1; i < scratch.used.data[0]; ++i) {
            if (!moved[i]) continue;
            moved[i] = kept;
            faces[kept++] = faces[i];
        }
        for (int y = 0; y < request.height; ++y)
            for (int x = 0; x < request.width; ++x) {
                int* slot = scratch.slot.data + y * scratch.stride + x;
                *slot = moved[*slot];
            }
        scratch.used.data[0] = kept;
    }

    const int cluster = scratch.cluster.data[number];
    const float* corners = scenes.corners.data + (long long)cluster * 144;
    const int* double_sided = scenes.double_sided.data + cluster * 16;
    float ax[16], ay[16], az[16], bx[16], by[16], bz[16], cx[16], cy[16], cz[16], wx[16], wy[16], wz[16];
    int first_x[16], last_x[16], first_y[16], last_y[16], drawn[16];
    const float right_edge = (float)(request.width - 1), bottom = (float)(request.height - 1);
    #pragma clang loop vectorize(assume_safety)
    for (int i = 0; i < 16; ++i) {
        const Face f = face_from(corners, 16, i);
        const float sign = f.det < 0.0f ? -1.0f : 1.0f, scale = 1.0f / f.det;
        ax[i] = f.ax * sign; ay[i] = f.ay * sign; az[i] = f.az * sign;
        bx[i] = f.bx * sign; by[i] = f.by * sign; bz[i] = f.bz * sign;
        cx[i] = f.cx * sign; cy[i] = f.cy * sign; cz[i] = f.cz * sign;
        wx[i] = f.nx * scale; wy[i] = f.ny * scale; wz[i] = f.nz * scale;
        auto least = [](float p, float q, float r) { const float m = p < q ? p : q; return m < r ? m : r; };
        auto most = [](float p, float q, float r) { const float m = p > q ? p : q; return m > r ? m : r; };
        const float low = least(f.d[0], f.d[1], f.d[2]), high = most(f.d[0], f.d[1], f.d[2]);
        const float r0 = focal / f.d[0], r1 = focal / f.d[1], r2 = focal / f.d[2];
        const float x0 = f.x[0] * r0, x1 = f.x[1] * r1, x2 = f.x[2] * r2;
        const float y0 = -f.y[0] * r0, y1 = -f.y[1] * r1, y2 = -f.y[2] * r2;
        // Of pixels whose centres may lie inside; a face that reaches behind the near plane may be anywhere.
        const int close = low < request.near;
        auto begin = [&](float edge, float centre, float end) {
            const float at = ceilf(edge + centre - 0.51f);
            const float kept = at > 0.0f ? (at < end + 1.0f ? at : end + 1.0f) : 0.0f;
            return close ? 0 : (int)kept;
        };
        auto end = [&](float edge, float centre, float end) {
            const float at = floorf(edge + centre - 0.49f);
            const float kept = at < end ? (at > -1.0f ? at : -1.0f) : end;
            return (int)(close ? end : kept);
        };
        first_x[i] = begin(least(x0, x1, x2), centre_x, right_edge);
        last_x[i] = end(most(x0, x1, x2), centre_x, right_edge);
        first_y[i] = begin(least(y0, y1, y2), centre_y, bottom);
        last_y[i] = end(most(y0, y1, y2), centre_y, bottom);
        const int faces_us = (f.det > 0.0f) | ((f.det < 0.0f) & (double_sided[i] != 0) & (request.cull == 0));
        drawn[i] = faces_us & (high >= request.near) & (low <= request.far) & (first_x[i] <= last_x[i])
                 & (first_y[i] <= last_y[i]);
    }

    const float near = 1.0f / request.near;
    const int across = scratch.stride >> 4;
    for (int k = 0; k < 16; ++k) {
        if (!drawn[k]) continue;
        const int slot = scratch.used.data[0];
        const float eax = ax[k], eay = ay[k], eaz = az[k], ebx = bx[k], eby = by[k], ebz = bz[k];
        const float ecx = cx[k], ecy = cy[k], ecz = cz[k], ewx = wx[k], ewy = wy[k], ewz = wz[k];
        const int from = first_x[k], to = last_x[k], wide = from >> 4 != to >> 4;
        float tolerance[3], per_slope[3];
        if (wide) {  // where a row begins and ends; the tolerance covers what rounding may have lost
            const float ends = 3e-6f * (centre_x > centre_y ? centre_x : centre_y) * per_pixel;
            tolerance[0] = ends * (fabsf(eax) + fabsf(eay)) + 3e-6f * fabsf(eaz);
            tolerance[1] = ends * (fabsf(ebx) + fabsf(eby)) + 3e-6f * fabsf(ebz);
            tolerance[2] = ends * (fabsf(ecx) + fabsf(ecy)) + 3e-6f * fabsf(ecz);
            per_slope[0] = focal / eax;
            per_slope[1] = focal / ebx;
            per_slope[2] = focal / ecx;
        }
        int seen = 0;
        for (int y = first_y[k]; y <= last_y[k]; ++y) {
            const float ray_y = (centre_y - 0.5f - (float)y) * per_pixel;
            const float a = eay * ray_y + eaz, b = eby * ray_y + ebz, c = ecy * ray_y + ecz, w = ewy * ray_y + ewz;
            int first_block = from >> 4, last_block = to >> 4;
            if (wide) {
                float low = (float)from, high = (float)to;
                auto narrow = [&](float slope, float at_zero, int edge) {
                    const float x = (-at_zero - tolerance[edge]) * per_slope[edge] + (centre_x - 0.5f);
                    if (slope > 0.0f && x > low) low = x;
                    if (slope < 0.0f && x < high) high = x;
                };
                narrow(eax, a, 0);
                narrow(ebx, b, 1);
                narrow(ecx, c, 2);
                if (low > high) continue;
                first_block = (int)low >> 4;
                last_block = (int)high >> 4;
            }
            for (int block = first_block; block <= last_block; ++block) {
                float* inverse_depth = scratch.inverse_depth.data + y * scratch.stride + block * 16;
                int* slots = scratch.slot.data + y * scratch.stride + block * 16;
                int any = 0;
                #pragma clang loop vectorize(assume_safety)
                for (int i = 0; i < 16; ++i) {
                    const float ray_x = ((float)(block * 16 + i) + 0.5f - centre_x) * per_pixel;
                    const float ahead = ewx * ray_x + w;
                    const int inside = (eax * ray_x + a >= 0.0f) & (ebx * ray_x + b >= 0.0f) & (ecx * ray_x + c >= 0.0f)
                                     & (ahead > inverse_depth[i]) & (ahead <= near);
                    inverse_depth[i] = inside ? ahead : inverse_depth[i];
                    slots[i] = inside ? slot : slots[i];
                    any |= inside;
                }
                if (any) scratch.tile_changed.data[y / TILE_ROWS * across + block] = 1;
                seen |= any;
            }
        }
        if (seen) {
            scratch.faces.data[slot] = cluster * 16 + k;
            scratch.used.data[0] = slot + 1;
        }
    }
""",
        TILE_ROWS=TILE_ROWS,
    )
)
def draw_cluster(scenes: Scenes, request: Request, scratch: Scratch, view: wp.int32, number: wp.int32) -> None:
    """Its faces into the visibility buffer."""


@wp.func_native(
    code(
        CAMERA,
        FACE,
        SURFACE,
        r"""
    const int used = scratch.used.data[0];
    const int* faces = scratch.faces.data;
    Surface* surfaces = (Surface*)scratch.surfaces.data;
    int* details = scratch.details.data;
    const float* corners = scenes.corners.data;
    const float* uv = scenes.uv.data;
    surfaces[0] = Surface{};
    details[0] = details[2] = details[3] = 0;
    details[1] = 1 | 1 << 16;
    #pragma clang loop vectorize(disable)  // collecting and scattering so many numbers takes longer than the sums
    for (int i = 1; i < used; ++i) {
        const int face = faces[i];
        const Face f = face_from(corners, 16, (face >> 4) * 144 + (face & 15));
        surfaces[i] = surface_from(f, uv + 6 * face);
        const int texture = scenes.texture.data[face];
        details[4 * i] = scenes.texture_base.data[texture];
        details[4 * i + 1] = scenes.texture_size.data[texture];
        details[4 * i + 2] = scenes.texture_kind.data[texture];
        details[4 * i + 3] = factor_of(f, scenes.factor.data[face]);
    }
""",
    )
)
def prepare_surfaces(scenes: Scenes, request: Request, scratch: Scratch, view: wp.int32) -> None:
    """What colouring needs of the faces that were seen."""


@wp.func_native(
    code(
        CAMERA,
        FACE,
        SURFACE,
        COLOUR,
        r"""
    const Surface* surfaces = (const Surface*)scratch.surfaces.data;
    const int* details = scratch.details.data;
    const int* faces = scratch.faces.data;
    const long long scene = ((const long long*)request.scene)[view];
    const bool coloured = scene >= 0 && scene < scenes.count && scenes.coloured.data[scene];
    unsigned char* out = (unsigned char*)request.rgb + (long long)view * request.height * request.width * 3;
    auto colour_rows = [&](auto filtering) {
        for (int y = 0; y < request.height; ++y) {
            const float ray_y = (centre_y - 0.5f - (float)y) * per_pixel;
            for (int begin = 0; begin < request.width; begin += 16) {
                const float* inverse_depth = scratch.inverse_depth.data + y * scratch.stride + begin;
                const int* slots = scratch.slot.data + y * scratch.stride + begin;
                float u[16], v[16], spread[16], red[16], green[16], blue[16];
                int base[16], size[16], texture[16], factor[16];
                float depth[16], ray_x[16];
                int starts = 1;  // a bit where a run of pixels that show one face begins
                #pragma clang loop vectorize(assume_safety)
                for (int i = 0; i < 16; ++i) {
                    depth[i] = 1.0f / inverse_depth[i];
                    ray_x[i] = ((float)(begin + i) + 0.5f - centre_x) * per_pixel;
                    starts |= (i > 0 && slots[i] != slots[i - (i > 0)]) << i;
                }
                for (; starts; starts &= starts - 1) {  // what a run writes beyond its end, the next one corrects
                    const int run = __builtin_ctz(starts), slot = slots[run];
                    const Surface surface = surfaces[slot];
                    const int its_base = details[4 * slot], its_size = details[4 * slot + 1];
                    const int its_texture = details[4 * slot + 2], its_factor = details[4 * slot + 3];
                    #pragma clang loop vectorize(assume_safety)
                    for (int i = 0; i < 16; ++i) {
                        const Place place = place_on(surface, its_size, ray_x[i], ray_y, depth[i]);
                        const int mine = i >= run;
                        u[i] = mine ? place.u : u[i];
                        v[i] = mine ? place.v : v[i];
                        spread[i] = mine ? place.spread : spread[i];
                        base[i] = mine ? its_base : base[i];
                        size[i] = mine ? its_size : size[i];
                        texture[i] = mine ? its_texture : texture[i];
                        factor[i] = mine ? its_factor : factor[i];
                    }
                    if (coloured) {
                        const unsigned* corners = scenes.vertex_colour.data + (slot == 0 ? 0 : 3 * faces[slot]);
                        const unsigned at_a = corners[0], at_b = corners[1], at_c = corners[2];
                        #pragma clang loop vectorize(assume_safety)
                        for (int i = 0; i < 16; ++i) {
                            const Colour c = corner_colour(surface, at_a, at_b, at_c, ray_x[i], ray_y, depth[i]);
                            const int mine = i >= run;
                            red[i] = mine ? c.red : red[i];
                            green[i] = mine ? c.green : green[i];
                            blue[i] = mine ? c.blue : blue[i];
                        }
                    }
                }
                if (!coloured)
                    for (int i = 0; i < 16; ++i) red[i] = green[i] = blue[i] = 1.0f;
                int packed[16];
                #pragma clang loop vectorize(assume_safety)
                for (int i = 0; i < 16; ++i) {
                    const Colour shown = texture_colour(filtering, base[i], size[i], texture[i], u[i], v[i], spread[i]);
                    packed[i] = final_colour(shown, factor[i], Colour{red[i], green[i], blue[i]});
                }
                const int end = request.width - begin < 16 ? request.width - begin : 16;
                for (int i = 0; i < end; ++i) {
                    out[0] = packed[i];
                    out[1] = packed[i] >> 8;
                    out[2] = packed[i] >> 16;
                    out += 3;
                }
            }
        }
    };
    if (request.filtering == 0) colour_rows(Nearest());
    else if (request.filtering == 1) colour_rows(Bilinear());
    else colour_rows(Trilinear());
""",
    )
)
def colour(scenes: Scenes, request: Request, scratch: Scratch, view: wp.int32) -> None:
    """The view's red, green and blue."""


@wp.func_native(
    code(r"""
    const long long pixels = (long long)request.height * request.width;
    for (int y = 0; y < request.height; ++y) {
        const float* inverse_depth = scratch.inverse_depth.data + y * scratch.stride;
        const int* slots = scratch.slot.data + y * scratch.stride;
        const int* faces = scratch.faces.data;
        const long long at = view * pixels + (long long)y * request.width;
        if (request.depth) {
            float* out = (float*)request.depth + at;
            #pragma clang loop vectorize(assume_safety)
            for (int x = 0; x < request.width; ++x) {
                const float depth = 1.0f / inverse_depth[x];
                out[x] = slots[x] ? (depth < request.far ? depth : request.far) : 0.0f;  // rounding may pass it
            }
        }
        auto ids = [&](unsigned long long address, const int* of_faces) {
            int* out = (int*)address + at;
            #pragma clang loop vectorize(assume_safety)
            for (int x = 0; x < request.width; ++x) {
                const int slot = slots[x];
                out[x] = slot ? of_faces[slot ? faces[slot] : 0] : 0;
            }
        };
        if (request.semantic) ids(request.semantic, scenes.semantic.data);
        if (request.instance) ids(request.instance, scenes.instance.data);
    }
""")
)
def depth_and_ids(scenes: Scenes, request: Request, scratch: Scratch, view: wp.int32) -> None:
    """The view's other pictures."""


@wp.kernel
def draw_views(scenes: Scenes, request: Request, scratch: Scratch, first: wp.int32) -> None:
    """One view from the camera to the tensors."""
    view = first + wp.tid()
    clear(request, scratch)
    clusters = cull(scenes, request, scratch, view)
    for i in range(clusters):
        if hidden(scenes, request, scratch, i, clusters) == 0:
            draw_cluster(scenes, request, scratch, view, scratch.order[i])
    if request.rgb != wp.uint64(0):
        prepare_surfaces(scenes, request, scratch, view)
        colour(scenes, request, scratch, view)
    depth_and_ids(scenes, request, scratch, view)


class RasterEngine:
    """Draws on the CPU, with `threads` of them (default: one a core). Pictures do not depend on their number.

    filtering: `bilinear` and `nearest` take the one mip level that fits best, `trilinear` mixes the two next to it, as
    habitat does. shading: `flat` shows colours as they are, `lambert` darkens what is turned away from a fixed light.
    cull_back_faces: whether the back of a face is never seen, or only where its material is not double-sided.
    habitat_compatible: as habitat's flat shading draws, which is trilinear and culls every back face.
    A view from a place that is not a number, or of a scene that is not there, is empty: black, depth 0, ids 0.
    Threads of the caller may share an engine, and draw one after the other; a process that is forked may go on with its
    parent's.
    """

    def __init__(
        self,
        scenes: Sequence[SceneData],
        *,
        threads: int | None = None,
        filtering: Filtering | None = None,
        shading: Shading = "flat",
        cull_back_faces: bool | None = None,
        habitat_compatible: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise UserError(f"threads is {threads}; expected 1 or more")
        self.device = torch.device("cpu")
        self.threads = threads or cores()
        self.layout = lay_out(scenes)
        self.options = drawing_options(filtering, shading, cull_back_faces, habitat_compatible)
        self._scenes = on_device(self.layout, "cpu")
        self._workers: dict[tuple[int, int], list[_Worker]] = {}
        self._pool = PerProcess(partial(ThreadPoolExecutor, self.threads, thread_name_prefix="vlkit-raster"))
        self._asked: dict[
            Camera, tuple[tuple[object, ...], Request, tuple[Tensor, ...]]
        ] = {}  # the last of each camera
        self._drawing = PerProcess(threading.Lock)  # held by whoever uses the workers

    def __getstate__(self) -> NoReturn:
        raise TypeError("an engine has threads and memory of its own; pickle its scenes and make one of them again")

    def render(self, camera: Camera, scene: Tensor, position: Tensor, rotation: Tensor, out: Frames) -> None:
        """Draws each view into row i of the tensors in `out`, as `camera.Engine` says."""
        views = len(scene)
        if views == 0 or not out:
            return
        tensors = (scene, position, rotation, *out.values())
        asked = (views, *out, *map(id, tensors), *[tensor.data_ptr() for tensor in tensors])
        with self._drawing():
            kept = self._asked.get(camera)
            if kept is None or kept[0] != asked:  # who draws from and into the same tensors again is told nothing anew
                request = requested(camera, self.options, scene, position, rotation, out, self.device)
                # While the tensors are kept, no other has their id.
                kept = self._asked[camera] = (asked, request, tensors)
            workers = self._workers_for(camera.height, camera.width, min(self.threads, views))
            self._draw(workers, kept[1], views)

    def _draw(self, workers: list["_Worker"], request: Request, views: int) -> None:
        if len(workers) == 1:
            workers[0].draw(request, 0, views)
            return
        part = max(1, views // (len(workers) * 8))  # views differ in cost: whoever is done first takes the next part
        starts = iter(range(0, views, part))  # threads may share it: each start is given once

        def work(worker: _Worker) -> None:
            for start in starts:
                worker.draw(request, start, min(part, views - start))

        for done in [self._pool().submit(work, worker) for worker in workers]:
            done.result()

    @property
    def bytes(self) -> int:
        """Of the scenes and of every thread's scratch so far."""
        return self.layout.bytes + sum(worker.bytes for each in self._workers.values() for worker in each)

    def _workers_for(self, height: int, width: int, threads: int) -> list["_Worker"]:
        workers = self._workers.setdefault((height, width), [])
        while len(workers) < threads:
            workers.append(_Worker(self._scenes, _scratch(height, width, self.layout)))
        return workers[:threads]


class _Worker:
    """A thread's scratch, and the recorded launch that uses it; only what changed is told to Warp again."""

    def __init__(self, scenes: Scenes, scratch: Scratch) -> None:
        self.launch = wp.launch(
            draw_views, dim=1, inputs=[scenes, Request(), scratch, 0], device="cpu", record_cmd=True
        )
        self.bytes: int = sum(value.capacity for value in vars(scratch).values() if isinstance(value, wp.array))
        self.request: Request | None = None
        self.first, self.views = 0, 1

    def draw(self, request: Request, first: int, views: int) -> None:
        if request is not self.request:
            self.launch.set_param_at_index(1, request)
            self.request = request
        if first != self.first:
            self.launch.set_param_at_index(3, first)
            self.first = first
        if views != self.views:
            self.launch.set_dim(views)
            self.views = views
        self.launch.launch()


def _scratch(height: int, width: int, layout: Layout) -> Scratch:
    stride = -(-width // LANES) * LANES
    tiles = stride // LANES * -(-height // TILE_ROWS)
    clusters = int(layout.clusters.max())
    # Slots are sorted out when they run short, which leaves at most one a pixel in use.
    slots = min(clusters * LANES, 2 * height * stride) + 2 * LANES
    sizes = {
        "inverse_depth": height * stride,
        "slot": height * stride,
        "tile_far": tiles,
        "tile_changed": tiles,
        **dict.fromkeys(("cluster", "nearest", "columns", "rows", "order"), clusters),
        **dict.fromkeys(("faces", "moved"), slots),
        "used": 1,
        "surfaces": slots * 15,
        "details": slots * 4,
    }
    scratch, fields = Scratch(), cast(Any, Scratch).vars
    for name, size in sizes.items():
        setattr(scratch, name, wp.zeros(size, dtype=fields[name].type.dtype, device="cpu"))
    scratch.slots = slots
    scratch.stride = stride
    return scratch
