"""The numbers in a glTF file: its JSON refers to accessors, they to views, those to buffers inside or beside the file."""

import base64
import binascii
import urllib.parse
from pathlib import Path

import numpy as np

from vlkit.envs.simulator.cache import Sources
from vlkit.envs.simulator.json_fields import Fields
from vlkit.errors import UserError

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
LARGEST_COUNT = 2**28  # entries of an accessor that no bytes stand behind

# What to run where the file is compressed in a way that is not read here.
CONVERT = {
    "KHR_draco_mesh_compression": "gltf-transform copy IN.glb OUT.glb",
    "EXT_meshopt_compression": "gltf-transform copy IN.glb OUT.glb",
    "KHR_meshopt_compression": "gltf-transform copy IN.glb OUT.glb",
    "KHR_texture_basisu": "gltf-transform ktxdecompress IN.glb OUT.glb",
    "EXT_texture_avif": "gltf-transform png IN.glb OUT.glb",
    "MSFT_texture_dds": "gltf-transform png IN.glb OUT.glb",
}


class GltfBuffers:
    """A document and the bytes that its accessors read."""

    def __init__(self, document: Fields, binary: memoryview, path: Path, sources: Sources) -> None:
        self.document, self.binary, self.path, self.sources = document, binary, path, sources
        self.lists: dict[str, list[Fields]] = {}
        self.loaded: dict[int, memoryview] = {}

    def one(self, kind: str, number: int, where: str) -> Fields:
        """Number so much of one of the document's lists: meshes, accessors..."""
        if kind not in self.lists:
            self.lists[kind] = self.document.listed(kind)
        if number >= len(self.lists[kind]):
            raise UserError(f"{where}: there is no {number} among the file's {len(self.lists[kind])} {kind}")
        return self.lists[kind][number]

    def array(self, index: int, width: int | tuple[int, ...], where: str, *, always: bool = False) -> np.ndarray:
        """(count, width) float32 of an accessor; integers stand for fractions where it says so, or `always`."""
        accessor = self.one("accessors", index, where)
        widths = (width,) if isinstance(width, int) else width
        values = self._accessor(index, where)
        if values.shape[1] not in widths:
            raise UserError(f"{accessor.where} has {values.shape[1]} numbers an entry; {where} needs {widths}")
        if values.dtype == np.float32:
            return values
        if not always and not accessor.flag("normalized", default=False):
            return values.astype(np.float32)
        largest = float(np.iinfo(values.dtype).max)
        return np.asarray(np.maximum(values.astype(np.float32) / np.float32(largest), np.float32(-1)))

    def column(self, index: int, where: str) -> np.ndarray:
        """(count,) int64 of an accessor of whole numbers."""
        values = self._accessor(index, where)
        if values.shape[1] != 1 or values.dtype.kind == "f":
            raise UserError(f"{where}: accessor {index} does not hold whole numbers, one an entry")
        return values[:, 0].astype(np.int64)

    def _accessor(self, index: int, where: str) -> np.ndarray:
        accessor = self.one("accessors", index, where)
        kind = accessor.text("type")
        if kind not in WIDTHS:
            accessor.wrong("type", f"one of {', '.join(WIDTHS)}")
        dtype = _component(accessor)
        count = accessor.integer("count", high=LARGEST_COUNT)
        shape = (count, WIDTHS[kind])
        if "bufferView" in accessor:
            values = self._strided(accessor, dtype, shape)
        elif "sparse" in accessor:
            values = np.zeros(shape, dtype)
        else:
            raise UserError(
                f"{accessor.where} has no bufferView: its data is compressed or missing; if the file uses Draco or "
                f"meshopt, run {CONVERT['KHR_draco_mesh_compression']}"
            )
        if "sparse" in accessor:
            values = values.copy()
            sparse = accessor.fields("sparse")
            some = sparse.integer("count", high=count)
            indices, changed = sparse.fields("indices"), sparse.fields("values")
            at = self._strided(indices, _component(indices), (some, 1))[:, 0].astype(np.int64)
            if some and (at.max() >= count or at.min() < 0):
                raise UserError(f"{sparse.where}: index {int(at.max())} of {count} entries; the file is damaged")
            values[at] = self._strided(changed, dtype, shape=(some, shape[1]))
        return values

    def _strided(self, fields: Fields, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
        data, stride = self.view(fields.integer("bufferView"), fields.where)
        entry = dtype.itemsize * shape[1]
        stride, offset = stride or entry, fields.integer("byteOffset", 0)
        if stride < entry:
            raise UserError(f"{fields.where}: entries of {entry} bytes every {stride} bytes would overlap")
        end = offset + stride * (shape[0] - 1) + entry if shape[0] else offset
        if end > len(data):
            raise UserError(
                f"{fields.where} reads to byte {end} of a bufferView of {len(data)}; the file is damaged: "
                "export or fetch it again"
            )
        if not shape[0]:
            return np.zeros(shape, dtype)
        return np.ndarray(shape, dtype, buffer=data, offset=offset, strides=(stride, dtype.itemsize))

    def view(self, index: int, where: str) -> tuple[memoryview, int]:
        """The bytes of a bufferView and how far its entries are apart, 0 where they follow each other."""
        view = self.one("bufferViews", index, where)
        for name in view.fields("extensions"):
            if name in CONVERT:
                raise UserError(compressed(name, self.path))
        data = self._buffer(view.integer("buffer"), view.where)
        start, length = view.integer("byteOffset", 0), view.integer("byteLength")
        if start + length > len(data):
            raise UserError(
                f"{view.where} ends at byte {start + length} of a buffer of {len(data)}; the file is damaged or cut off: "
                "export or fetch it again"
            )
        return data[start : start + length], view.integer("byteStride", 0)

    def _buffer(self, index: int, where: str) -> memoryview:
        if index not in self.loaded:
            buffer = self.one("buffers", index, where)
            named = "uri" in buffer
            self.loaded[index] = memoryview(self.resource(buffer.text("uri"), buffer.where)) if named else self.binary
        return self.loaded[index]

    def resource(self, uri: str, where: str) -> bytes:
        """The bytes of a file beside this one, or of a data: address."""
        if not uri.startswith("data:"):
            return self.sources.read(self.beside(uri))
        head, comma, body = uri.partition(",")
        try:
            if not comma:
                raise ValueError("no comma")
            return base64.b64decode(body) if head.endswith(";base64") else urllib.parse.unquote_to_bytes(body)
        except (ValueError, binascii.Error) as error:
            raise UserError(
                f"{where}: its data: address is damaged ({error}); export or fetch the file again"
            ) from error

    def beside(self, uri: str) -> Path:
        """The file that an address names."""
        if "://" in uri:
            raise UserError(
                f"{self.path} names {uri[:80]}; nothing is fetched from the network: download it beside the file"
            )
        return self.path.parent / urllib.parse.unquote(uri)


def compressed(name: str, path: Path) -> str:
    """What to tell a user whose file needs an extension that is not read here."""
    if name not in CONVERT:
        return f"{path} has pictures only in the glTF extension {name}, which is not read here; export them as PNG"
    return (
        f"{path} is compressed with {name}, which is not read here; convert it first: {CONVERT[name]} "
        "(npm install --global @gltf-transform/cli)"
    )


def _component(fields: Fields) -> np.dtype:
    code = fields.integer("componentType")
    if code not in COMPONENTS:
        fields.wrong("componentType", f"one of {', '.join(map(str, COMPONENTS))}")
    return np.dtype(COMPONENTS[code])
