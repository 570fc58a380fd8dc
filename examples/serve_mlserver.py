"""A runtime for MLServer that serves an exported part by ONNX Runtime: part.onnx, or progressive.onnx, which
stops by itself, one sample at a time.

    edgelesspart export parts my.ron --out parts
    pip install mlserver numpy onnxruntime
    mlserver start FOLDER

where FOLDER holds this file and model-settings.json, for one sample at a time or, of part.onnx, in batches:

    {"name": "cloud", "implementation": "serve_mlserver.OnnxPart",
     "parameters": {"uri": "/path/to/parts/cloud/progressive.onnx"}}
    {"name": "cloud", "implementation": "serve_mlserver.OnnxPart", "max_batch_size": 32, "max_batch_time": 0.002,
     "parameters": {"uri": "/path/to/parts/cloud/part.onnx"}}

The session's last tier is then V2(url: "http://HOST:8080", model: "cloud").
"""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor
from mlserver.utils import get_model_uri

DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


def metadata(tensor):
    shape = [extent if isinstance(extent, int) else -1 for extent in tensor.shape]
    return MetadataTensor(name=tensor.name, datatype=DATATYPES[tensor.type], shape=shape)


class OnnxPart(MLModel):
    async def load(self) -> bool:
        file = await get_model_uri(self.settings)
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        # Thresholds of progressive.onnx aren't among its inputs: they are the plan's where nobody gives them.
        self.inputs = [metadata(tensor) for tensor in self.session.get_inputs()]
        self.outputs = [metadata(tensor) for tensor in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        found = self.session.run(None, {payload.inputs[0].name: x})
        outputs = [NumpyCodec.encode_output(of.name, y) for of, y in zip(self.outputs, found)]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)
