"""Makes the files beside it, by Pillow 13 (libjpeg-turbo 3.2), NumPy 2.4 and Python's tarfile.

The .png of each .jpg is what Pillow decodes it to: the value its test expects.
"""

import gzip
import io
import pickle
import tarfile

import numpy as np
from PIL import Image

rng = np.random.default_rng(7)


def smooth(width, height, channels=3):
    small = rng.integers(0, 256, (5, 5, channels), dtype="u1")
    image = Image.frombytes("RGB" if channels == 3 else "CMYK", (5, 5), small.tobytes())
    return image.resize((width, height), Image.BICUBIC)


def pair(name, image, edit=lambda data: data, **settings):
    out = io.BytesIO()
    image.save(out, "JPEG", **settings)
    data = edit(out.getvalue())
    open(f"{name}.jpg", "wb").write(data)
    decoded = Image.open(io.BytesIO(data))
    decoded.convert("L" if decoded.mode == "L" else "RGB").save(f"{name}.png")


def stray(data):
    """Two stray bytes before the second table, as some cameras leave them."""
    at = data.index(b"\xff\xdb", data.index(b"\xff\xdb") + 2)
    return data[:at] + b"\0\0" + data[at:] + b"after the end"


pair("420", smooth(37, 29), quality=75, subsampling=2)
pair("422_progressive", smooth(40, 23), quality=90, subsampling=1, progressive=True)
pair("444", smooth(17, 9), quality=60, subsampling=0)
pair("grey", smooth(21, 33).convert("L"), quality=80)
pair("cmyk", smooth(24, 24, 4), quality=85)
pair("stray", smooth(32, 32), stray, quality=75)


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings: the published CIFAR files are of it."""

    def save_bytes(self, data):
        n = len(data)
        head = b"U" + bytes([n]) if n < 256 else b"T" + n.to_bytes(4, "little")
        self.write(head + data)
        self.memoize(data)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}


def old(value):
    out = io.BytesIO()
    Python2(out, 2).dump(value)
    return out.getvalue()


def cifar(labels, key):
    rows = np.array([[(7 * label + channel) % 256 for channel in range(3) for _ in range(1024)] for label in labels])
    return {b"data": rows.astype("u1"), key: labels, b"batch_label": b"made for a test"}


open("cifar10_python2.pkl.gz", "wb").write(gzip.compress(old(cifar([3, 9], b"labels")), mtime=0))
as_text = {key.decode(): value for key, value in cifar([3, 9], b"labels").items()}
open("cifar10_python3.pkl.gz", "wb").write(gzip.compress(pickle.dumps(as_text, 4), mtime=0))
names = [b"zero", b"one", b"two", b"three", b"four", b"five", b"six", b"seven", b"eight", b"nine"]
open("cifar10_meta.pkl", "wb").write(old({b"label_names": names, b"num_vis": 3072}))

medmnist = {}
for side, count in [("train", 5), ("val", 2), ("test", 3)]:
    medmnist[f"{side}_images"] = np.arange(count * 12, dtype="u1").reshape(count, 2, 2, 3)
    medmnist[f"{side}_labels"] = (np.arange(count) % 2).astype("u1").reshape(count, 1)
np.savez_compressed("medmnist.npz", **medmnist)
np.savez(
    "keras.npz",
    x_train=np.asfortranarray(np.arange(12, dtype="u1").reshape(3, 2, 2)),
    y_train=np.array([0, 1, 2]),
    x_test=np.full((1, 2, 2), 9, "u1"),
    y_test=np.array([1]),
)

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    for index in range(6):
        out = io.BytesIO()
        Image.new("RGB", (2, 2), (10 * index, 0, 0)).save(out, "PNG")
        for name, data in [("png", out.getvalue()), ("cls", b"%d" % (index % 2)), ("json", b"{}")]:
            info = tarfile.TarInfo(f"shard/{index:06}.{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
open("webdataset.tar.gz", "wb").write(gzip.compress(archive.getvalue(), mtime=0))
