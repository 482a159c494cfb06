"""Writes mlp.safetensors: a network 3-4-2 with tanh, as PyTorch names and orients its weights.

Byte by byte with numpy, and so independent of the library that reads it here. The inputs and the
outputs of the network, computed in double precision, are in mlp.json.
"""

import json
import pathlib
import struct

import numpy as np

here = pathlib.Path(__file__).parent
random = np.random.default_rng(17)
layers = [(random.normal(size=(4, 3)), random.normal(size=4)),
          (random.normal(size=(2, 4)), random.normal(size=2))]
tensors = {"epoch": np.array([7], dtype="<i8")}
for i, (weight, bias) in enumerate(layers):
    tensors[f"decoder.{2 * i}.weight"] = weight.astype("<f4")
    tensors[f"decoder.{2 * i}.bias"] = bias.astype("<f4")

header, data = {"__metadata__": {"format": "pt"}}, b""
for name, tensor in tensors.items():
    content = tensor.tobytes()  # by rows
    header[name] = {"dtype": {"f": "F32", "i": "I64"}[tensor.dtype.kind],
                    "shape": list(tensor.shape),
                    "data_offsets": [len(data), len(data) + len(content)]}
    data += content
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
(here / "mlp.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

x = random.normal(size=(5, 3))
h = x
for i in range(2):
    weight, bias = (tensors[f"decoder.{2 * i}.{part}"].astype(float) for part in ("weight", "bias"))
    h = h @ weight.T + bias
    if i == 0:
        h = np.tanh(h)
(here / "mlp.json").write_text(json.dumps({"inputs": x.tolist(), "outputs": h.tolist()}) + "\n")
