/*!
Which of ONNX's operators are imported, and why the others are not. `docs/operators.md` is written from
this list and from what the importer itself says of each.
*/

/// Operators that are left out, each with the reason, in order of name.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "Bernoulli",
        "draws at random, and a classifier must answer the same twice",
    ),
    ("BitCast", "works on single bits"),
    ("BitShift", "works on single bits"),
    ("BitwiseAnd", "works on single bits"),
    ("BitwiseNot", "works on single bits"),
    ("BitwiseOr", "works on single bits"),
    ("BitwiseXor", "works on single bits"),
    ("BlackmanWindow", "is for sound"),
    (
        "CausalConvWithState",
        "recurrent, with a state that goes from step to step",
    ),
    ("Col2Im", "has no kernel yet"),
    (
        "ConcatFromSequence",
        "works on sequences or optional tensors",
    ),
    ("DFT", "is for sound"),
    (
        "DeformConv",
        "samples at places that depend on the input (detection, registration)",
    ),
    ("Det", "has no kernel yet"),
    ("GRU", "recurrent, with a state that goes from step to step"),
    ("HammingWindow", "is for sound"),
    ("HannWindow", "is for sound"),
    (
        "ImageDecoder",
        "decodes image files; the data of a session does",
    ),
    (
        "LSTM",
        "recurrent, with a state that goes from step to step",
    ),
    (
        "LinearAttention",
        "recurrent, with a state that goes from step to step",
    ),
    (
        "MaxRoiPool",
        "samples at places that depend on the input (detection, registration)",
    ),
    (
        "MaxUnpool",
        "samples at places that depend on the input (detection, registration)",
    ),
    ("MelWeightMatrix", "is for sound"),
    (
        "Multinomial",
        "draws at random, and a classifier must answer the same twice",
    ),
    ("NegativeLogLikelihoodLoss", "is for training"),
    (
        "NonMaxSuppression",
        "the extent of its result depends on the values, and tensors here have fixed extents",
    ),
    ("Optional", "works on sequences or optional tensors"),
    (
        "OptionalGetElement",
        "works on sequences or optional tensors",
    ),
    (
        "OptionalHasElement",
        "works on sequences or optional tensors",
    ),
    ("RNN", "recurrent, with a state that goes from step to step"),
    (
        "RandomNormal",
        "draws at random, and a classifier must answer the same twice",
    ),
    (
        "RandomNormalLike",
        "draws at random, and a classifier must answer the same twice",
    ),
    (
        "RandomUniform",
        "draws at random, and a classifier must answer the same twice",
    ),
    (
        "RandomUniformLike",
        "draws at random, and a classifier must answer the same twice",
    ),
    ("RegexFullMatch", "works on text"),
    ("ReverseSequence", "has no kernel yet"),
    (
        "RoiAlign",
        "samples at places that depend on the input (detection, registration)",
    ),
    (
        "RotaryEmbedding",
        "belongs to text generation, with a cache of earlier words",
    ),
    ("STFT", "is for sound"),
    (
        "Scan",
        "recurrent, with a state that goes from step to step",
    ),
    ("SequenceAt", "works on sequences or optional tensors"),
    (
        "SequenceConstruct",
        "works on sequences or optional tensors",
    ),
    ("SequenceEmpty", "works on sequences or optional tensors"),
    ("SequenceErase", "works on sequences or optional tensors"),
    ("SequenceInsert", "works on sequences or optional tensors"),
    ("SequenceLength", "works on sequences or optional tensors"),
    ("SequenceMap", "works on sequences or optional tensors"),
    ("SoftmaxCrossEntropyLoss", "is for training"),
    ("SplitToSequence", "works on sequences or optional tensors"),
    ("StringConcat", "works on text"),
    ("StringNormalizer", "works on text"),
    ("StringSplit", "works on text"),
    (
        "TensorScatter",
        "belongs to text generation, with a cache of earlier words",
    ),
    ("TfIdfVectorizer", "works on text"),
    (
        "Unique",
        "the extent of its result depends on the values, and tensors here have fixed extents",
    ),
];

/// Why an operator of ONNX is left out; `None` if it is none, or none that is.
pub(super) fn why_not(op: &str) -> Option<&'static str> {
    let found = LEFT_OUT.iter().find(|(name, _)| *name == op);
    found.map(|(_, why)| *why)
}

#[cfg(test)]
mod tests;
