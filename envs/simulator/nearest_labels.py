"""Labels of one mesh onto another of the same place: a scan is drawn from one mesh and labelled on a second."""

# Warp reads the bodies and types of kernels its own way.

from dataclasses import replace

import numpy as np

from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.scene import SceneData

FARTHEST_M = 0.25  # a surface that lies further from every labelled one belongs to nothing

wp.set_module_options({"enable_backward": False})


def with_nearest_labels(scene: SceneData, labelled: SceneData) -> SceneData:
    """The scene with objects, rooms and categories of `labelled`: a face is of what lies nearest to its middle."""
    middle = scene.vertices[scene.faces].mean(axis=1, dtype=np.float32)
    face = _nearest_faces(labelled.vertices, labelled.faces, middle)
    found = face >= 0
    return replace(
        scene,
        instance=np.where(found, labelled.instance[face], 0).astype(np.int32),
        semantic=np.where(found, labelled.semantic[face], 0).astype(np.int32),
        categories=labelled.categories,
        objects=labelled.objects,
        rooms=labelled.rooms,
    )


def _nearest_faces(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(points,) int32, the face that lies nearest to each point; -1 where none is within FARTHEST_M."""
    device = "cpu"
    mesh = wp.Mesh(
        points=wp.array(vertices, dtype=wp.vec3, device=device),
        indices=wp.array(np.ascontiguousarray(faces).reshape(-1), dtype=wp.int32, device=device),
    )
    nearest = wp.full(len(points), -1, dtype=wp.int32, device=device)
    places = wp.array(points, dtype=wp.vec3, device=device)
    wp.launch(_nearest, dim=len(points), inputs=[mesh.id, places, FARTHEST_M], outputs=[nearest], device=device)
    return np.asarray(nearest.numpy())


@wp.kernel(enable_backward=False)
def _nearest(mesh: wp.uint64, points: wp.array[wp.vec3], farthest: float, faces: wp.array[wp.int32]) -> None:
    i = wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[i], farthest)
    if query.result:
        faces[i] = query.face
