/*!
Which of ONNX's operators are imported, and why the others are not. `docs/operators.md` is written from
this list and from what the importer itself says of each.
*/

/// Operators that are left out, each with the reason, in order of name.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "Bernoulli",
        "draws at random, and the same sample must get the same answer twice: export the network for inference",
    ),
    (
        "CausalConvWithState",
        "recurrent, with a state that goes from step to step",
    ),
    (
        "ConcatFromSequence",
        "works on sequences or optional tensors",
    ),
    (
        "DeformConv",
        "samples at places that depend on the input (detection, registration)",
    ),
    ("GRU", "recurrent, with a state that goes from step to step"),
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
        "gives a row per region, not per sample: a detector's",
    ),
    (
        "MaxUnpool",
        "its indices count over the whole batch, so that an answer would depend on the sample's place in it",
    ),
    (
        "Multinomial",
        "draws at random, and the same sample must get the same answer twice: export the network for inference",
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
        "draws at random, and the same sample must get the same answer twice: export the network for inference",
    ),
    (
        "RandomNormalLike",
        "draws at random, and the same sample must get the same answer twice: export the network for inference",
    ),
    (
        "RandomUniform",
        "draws at random, and the same sample must get the same answer twice: export the network for inference",
    ),
    (
        "RandomUniformLike",
        "draws at random, and the same sample must get the same answer twice: export the network for inference",
    ),
    ("RegexFullMatch", "works on text"),
    (
        "ReverseSequence",
        "reverses sequences, each by a length of its own",
    ),
    (
        "RoiAlign",
        "gives a row per region, not per sample: a detector's",
    ),
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
        "recurrent, with a state that goes from step to step (a cache of earlier words)",
    ),
    ("TfIdfVectorizer", "works on text"),
    (
        "Unique",
        "the extent of its result depends on the values, and tensors here have fixed extents",
    ),
];

/// What operators that are in don't do, in order of name.
#[cfg(test)]
const PARTLY: &[(&str, &str)] = &[
    ("BitCast", KNOWN),
    ("BitShift", KNOWN),
    ("BitwiseAnd", KNOWN),
    ("BitwiseNot", KNOWN),
    ("BitwiseOr", KNOWN),
    ("BitwiseXor", KNOWN),
    (
        "BlackmanWindow",
        "of a length known before the network runs",
    ),
    (
        "DFT",
        "of a length known before the network runs; no one-sided inverse",
    ),
    ("Det", "of matrices of up to 5 rows"),
    ("HammingWindow", "of a length known before the network runs"),
    ("HannWindow", "of a length known before the network runs"),
    ("MelWeightMatrix", KNOWN),
    ("NonZero", KNOWN),
    ("STFT", "of lengths known before the network runs"),
];

#[cfg(test)]
const KNOWN: &str = "of numbers known before the network runs";

/// Why an operator of ONNX is left out; `None` if it is none, or none that is.
pub(super) fn why_not(op: &str) -> Option<&'static str> {
    let found = LEFT_OUT.iter().find(|(name, _)| *name == op);
    found.map(|(_, why)| *why)
}

#[cfg(test)]
mod tests;
