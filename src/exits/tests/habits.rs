/*! What hands used to other libraries write. */

use super::*;
use pretty_assertions::assert_eq;
use rstest::rstest;

/// What hands used to other libraries write, and the way out.
#[rstest]
#[case("[Conv2d(64, 3), GlobalAvgPool, Linear(classes)]", "write `kernel: 3`")]
#[case(
    "[Conv2d(8, kernel_size: 3), GlobalAvgPool, Linear(classes)]",
    "did you mean `kernel`?"
)]
#[case(
    "[Conv2d(8, padding: 1), GlobalAvgPool, Linear(classes)]",
    "did you mean `pad`?"
)]
#[case(
    "[BatchNorm2d(32), GlobalAvgPool, Linear(classes)]",
    "write `BatchNorm2d` alone"
)]
#[case("[GlobalAvgPool, Linear(in: 16, out: classes)]", "leave it out")]
#[case(
    "[GlobalAvgPool, Linear(num_classes)]",
    "`classes`, `channels`, `height`, `width`"
)]
#[case(
    "[GlobalAvgPool, Linear(channels / 2), Linear(classes)]",
    "sums stand in braces"
)]
#[case(
    "[GlobalAvgPool, Linear(channels -2), Linear(classes)]",
    "sums stand in braces"
)]
#[case("[GlobalAvgPool, Linear(out = classes)]", "write `out: …`")]
#[case("[AdaptiveAvgPool2d((1, 1)), Flatten, Linear(classes)]", "one number")]
#[case("[GlobalAvgPool, Dropout(50), Linear(classes)]", "0.5 is half")]
#[case(
    "[GlobalAvgPool, Linear(classes), Softmax]",
    "softmax is applied behind the head"
)]
#[case("[GlobalAvgPool, Dense(classes)]", "did you mean `Linear`?")]
#[case("[GlobalAvgPool; Linear(classes)]", "part layers by commas")]
#[case("GlobalAvgPool, Linear(classes)", "a head is a list")]
#[case("nn.Sequential(nn.Linear(10))", "a head is a list")]
#[case("", "a head is a list")]
#[case(
    "[{{ down(64) }}, GlobalAvgPool, Linear(classes)]",
    "{% from \"blocks\" import down %}"
)]
#[case(
    "[\n{% if depth < 0.5 %}\nRelu,\n GlobalAvgPool, Linear(classes)]",
    "end it by `{% endif %}`"
)]
#[case("{% for i in [1] %}[{% if i %}{% endif %}", "end it by `{% endfor %}`")]
fn a_habit_is_one_finding_with_a_way_out(#[case] source: &str, #[case] help: &str) {
    let error = head(source, &point(&[16, 8, 8]), "edge", 0).unwrap_err();
    assert_eq!(error.diagnostics.len(), 1, "{error}");
    let told = error.diagnostics[0].help.as_deref().unwrap_or_default();
    assert!(told.contains(help), "{error}");
}
