"""A part of a network in Triton that stops at the first exit that is confident enough.

Each segment is a model of its own beside this one and gives the tensor for the next segment and, where an exit
stands behind it, that exit's logits. Samples of all requests that came together run as one batch; those that
leave at an exit are taken out of it, and the segments behind run for the others alone.

What the part is made of stands in config.pbtxt: segment_0, segment_1, … (model, input, output, logits,
temperature), threshold_0, threshold_1, … (0 to 1; a sample leaves where its confidence is larger), confidence
(MaxProbability, Margin or Entropy), final (logits or probabilities, or tensor where the network goes on
elsewhere) and extents (of one sample of the last output). A request's parameter `threshold` is taken for all exits of that request.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


def probabilities(scores, temperature):
    scores = scores.astype(np.float64) / temperature
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def confidence(p, measure):
    """Of probabilities [samples, classes], 0 to 1."""
    classes = p.shape[1]
    if classes == 1:
        return np.ones(len(p))
    if measure == "MaxProbability":
        return p.max(axis=1)
    if measure == "Margin":
        best = np.sort(p, axis=1)[:, -2:]
        return best[:, 1] - best[:, 0]
    if measure == "Entropy":
        return np.clip(1 + (p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(classes), 0, 1)
    raise pb_utils.TritonModelException(f"no confidence is called {measure}")


def run(segment, x):
    """The segment's tensor, and its exit's logits or None."""
    names = [segment["output"]] + ([segment["logits"]] if segment["logits"] else [])
    # Where the model is on a GPU its answer may be too; it is looked at here.
    cpu = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
    request = pb_utils.InferenceRequest(
        model_name=segment["model"],
        requested_output_names=names,
        inputs=[pb_utils.Tensor(segment["input"], np.ascontiguousarray(x))],
        preferred_memory=cpu,
    )
    response = request.exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    outputs = [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in names]
    return outputs[0], outputs[1] if segment["logits"] else None


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        text = {key: value["string_value"] for key, value in config["parameters"].items()}
        count = sum(key.startswith("segment_") for key in text)
        self.segments = [json.loads(text[f"segment_{i}"]) for i in range(count)]
        exits = sum(segment["logits"] is not None for segment in self.segments)
        self.thresholds = [float(text[f"threshold_{i}"]) for i in range(exits)]
        self.measure, self.final = text["confidence"], text["final"]
        self.extents = json.loads(text["extents"])
        self.input = config["input"][0]["name"]
        self.outputs = [output["name"] for output in config["output"]]
        self.batched = config["max_batch_size"] > 0

    def execute(self, requests):
        # Where Triton makes no batches each request is one sample, and runs by itself.
        groups = [list(requests)] if self.batched else [[request] for request in requests]
        return [response for group in groups for response in self.answer(group)]

    def answer(self, requests):
        try:
            inputs = [pb_utils.get_input_tensor_by_name(r, self.input).as_numpy() for r in requests]
            counts = [len(x) for x in inputs]
            rules = [self.rules(request, count) for request, count in zip(requests, counts)]
            outputs = self.part(np.concatenate(inputs), np.concatenate(rules))
        except Exception as error:  # told to each client, instead of an end of this process
            failed = pb_utils.TritonError(str(error))
            return [pb_utils.InferenceResponse(error=failed) for _ in requests]
        ends = np.cumsum(counts)
        pieces = [self.piece(outputs, end - count, end) for end, count in zip(ends, counts)]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in zip(self.outputs, piece)])
            for piece in pieces
        ]

    def rules(self, request, count):
        """Thresholds [count, exits] of a request."""
        asked = json.loads(request.parameters() or "{}").get("threshold")
        if asked is None:
            return np.tile(np.array(self.thresholds), (count, 1))
        if not 0 <= float(asked) <= 1:
            raise ValueError("the parameter `threshold` lies between 0 and 1")
        return np.full((count, len(self.thresholds)), float(asked))

    def part(self, x, rules):
        """Scores, exit and confidence of each sample, and the tensor that is sent on, of one or of none."""
        samples, number = len(x), 0
        scores, tensor = None, None
        exits = np.full(samples, len(self.thresholds), np.int32)
        sure = np.zeros(samples, np.float32)
        rows = np.arange(samples)
        for segment in self.segments:
            x, logits = run(segment, x)
            if logits is None:
                continue
            scores = np.zeros((samples, logits.shape[1]), np.float32) if scores is None else scores
            found = confidence(probabilities(logits, segment["temperature"]), self.measure)
            found = found.astype(np.float32)
            scores[rows], sure[rows] = logits, found
            leaves = found.astype(np.float64) > rules[rows, number]
            exits[rows[leaves]] = number
            number += 1
            if leaves.all():
                rows = rows[:0]
                break
            if leaves.any():
                rows, x = rows[~leaves], x[~leaves]
        if self.final == "tensor":
            tensor = x if len(rows) else np.zeros((0, *self.extents), np.float32)
        elif len(rows):
            last = x.reshape(len(rows), -1)
            p = last.astype(np.float64) if self.final == "probabilities" else probabilities(last, 1.0)
            scores[rows], sure[rows] = last, confidence(p, self.measure).astype(np.float32)
        return scores, exits, sure, tensor

    def piece(self, outputs, start, end):
        """Of the samples from start to end: scores, exit, confidence, and the tensor if one is sent on."""
        scores, exits, sure, tensor = outputs
        # In batches Triton wants one extent at least besides the samples.
        column = (lambda x: x[start:end, None]) if self.batched else (lambda x: x[start:end])
        piece = [scores[start:end], column(exits), column(sure)]
        return piece if tensor is None else piece + [np.ascontiguousarray(tensor)]
