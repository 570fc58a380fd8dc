#!/usr/bin/env python3
"""Runs the edge's exported part in ONNX Runtime, segment by segment: a sample leaves at the first exit that
is confident enough, and the tensor of every other one goes to the next part, behind any server of the Open
Inference Protocol (an agent, Triton, KServe).

    edgelesspart export parts my.ron --out parts
    edgelesspart export parts my.ron --out bundles --format bundle
    edgelesspart agent --model cloud=bundles/cloud.tar          # where the cloud is; it says its address
    pip install numpy onnxruntime 'tritonclient[http]'
    python examples/edge_part.py parts/edge x.npy --cloud 127.0.0.1:7070 --model cloud

x.npy holds images as uint8 [samples, channels, height, width], or the part's input as float32. A line of JSON
per sample: where it was answered, the exit there, counted from 0 (the number of exits or null: the final
classifier), its class, and the last confidence at the edge.
"""

import argparse
import json
import pathlib

import numpy as np
import onnxruntime


def preprocessed(pixels, p):
    """The part's input of images, as the manifest says: (pixel · scale − mean) ÷ std."""
    channel = lambda values: np.array(values, np.float32).reshape(-1, 1, 1)
    if p.get("channels") == "Bgr":
        pixels = pixels[:, ::-1]
    x = (pixels * np.float32(p["scale"]) - channel(p["mean"])) / channel(p["std"])
    return x if p["layout"] == "Nchw" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def confidence(logits, temperature, measure):
    """Confidence of an exit, 0 to 1, by the measure that the manifest names."""
    scores = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    p = np.sort(scores / scores.sum())[::-1]
    if measure == "MaxProbability":
        return p[0]
    if measure == "Margin":
        return p[0] - p[1]
    if measure == "Entropy":
        return 1 + (p * np.log(np.maximum(p, 1e-300))).sum() / np.log(len(p))
    raise SystemExit(f"the measure {measure} looks at the exits before, which this program doesn't")


class EdgePart:
    """The segments and heads of an exported part."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.segments = []
        for entry in self.manifest["segments"]:
            exit = entry["exit"]
            self.segments.append((self.load(entry), exit, exit and self.load(exit)))

    def load(self, entry):
        session = onnxruntime.InferenceSession(
            str(self.folder / entry["file"]), providers=["CPUExecutionProvider"]
        )
        name = entry["input"]["name"]
        return lambda x: session.run(None, {name: x})[0]

    def run(self, x):
        """For one sample: the exit it left at (its number, class and confidence), or the part's output."""
        number, last = 0, None
        for segment, exit, head in self.segments:
            x = segment(x)
            if head is None:
                continue
            logits = head(x)[0]
            last = confidence(logits, exit["temperature"], self.manifest["confidence"])
            if last > exit["threshold"]:
                return (number, int(logits.argmax()), last), None
            number += 1
        return (None, None, last), x


class Cloud:
    """A model behind a server of the Open Inference Protocol."""

    def __init__(self, address, model):
        import tritonclient.http

        self.protocol = tritonclient.http
        self.client = tritonclient.http.InferenceServerClient(address)
        self.model = model
        metadata = self.client.get_model_metadata(model)
        self.input, self.outputs = metadata["inputs"][0], [o["name"] for o in metadata["outputs"]]

    def run(self, x):
        """The class of one sample, and the exit of that part where the server tells it."""
        tensor = self.protocol.InferInput(self.input["name"], list(x.shape), self.input["datatype"])
        tensor.set_data_from_numpy(np.ascontiguousarray(x, np.float32))
        answer = self.client.infer(self.model, [tensor])
        exit = int(answer.as_numpy("exit")[0]) if "exit" in self.outputs else None
        return exit, int(answer.as_numpy(self.outputs[0])[0].argmax())


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    args.add_argument("part", help="folder of the edge's part, with its manifest.json")
    args.add_argument("samples", help="x.npy")
    args.add_argument("--cloud", metavar="HOST:PORT", help="server that has the next part")
    args.add_argument("--model", default="cloud", help="name of the next part there")
    args = args.parse_args()
    part = EdgePart(args.part)
    x = np.load(args.samples)
    if x.dtype == np.uint8:
        if not part.manifest["preprocessing"]:
            raise SystemExit("the part doesn't begin with images: give its input as float32")
        x = preprocessed(x, part.manifest["preprocessing"])
    cloud = Cloud(args.cloud, args.model) if args.cloud else None
    for number in range(len(x)):
        (exit, answer, sure), tensor = part.run(x[number : number + 1])
        where = "edge"
        if tensor is not None and part.manifest["output"]["kind"] != "tensor":
            answer = int(tensor[0].argmax())
        elif tensor is not None and cloud is not None:
            where, (exit, answer) = "cloud", cloud.run(tensor)
        elif tensor is not None:
            where = "nowhere: no --cloud"
        sure = None if sure is None else float(sure)
        row = {"sample": number, "where": where, "exit": exit, "class": answer, "confidence": sure}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
