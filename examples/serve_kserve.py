"""A KServe model server that serves an exported part by ONNX Runtime: part.onnx, or progressive.onnx, which
stops by itself, one sample at a time.

    edgelesspart export parts my.ron --out parts
    pip install kserve numpy onnxruntime
    python examples/serve_kserve.py cloud parts/cloud/progressive.onnx --http_port 8080

The session's last tier is then V2(url: "http://HOST:8080", model: "cloud").
"""

import argparse

import kserve
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse

DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


def metadata(tensor):
    shape = [extent if isinstance(extent, int) else -1 for extent in tensor.shape]
    return {"name": tensor.name, "datatype": DATATYPES[tensor.type], "shape": shape}


class OnnxPart(kserve.Model):
    def __init__(self, name, file):
        super().__init__(name)
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.ready = True

    def get_input_types(self):
        # Thresholds of progressive.onnx aren't among them: they are the plan's where nobody gives them.
        return [metadata(tensor) for tensor in self.session.get_inputs()]

    def get_output_types(self):
        return [metadata(tensor) for tensor in self.session.get_outputs()]

    def predict(self, payload: InferRequest, headers=None, response_headers=None):
        x = payload.inputs[0]
        found = self.session.run(None, {x.name: x.as_numpy()})
        outputs = []
        for about, y in zip(self.get_output_types(), found):
            output = InferOutput(about["name"], list(y.shape), about["datatype"])
            output.set_data_from_numpy(y, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(payload.id, self.name, outputs, use_binary_outputs=payload.use_binary_outputs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[kserve.model_server.parser], conflict_handler="resolve")
    parser.add_argument("name", help="name of the model")
    parser.add_argument("file", help="part.onnx or progressive.onnx")
    args = parser.parse_args()
    kserve.ModelServer(http_port=args.http_port, enable_grpc=False, workers=1).start([OnnxPart(args.name, args.file)])
