/*! How honest the confidences of each classifier are, for the report. */

use super::chart::{Chart, Curve};
use super::{Report, ReportError};
use crate::plan::Plan;
use crate::predict::{Column, ConfidenceTable, HeadKey, Reliability, reliability};
use serde::{Deserialize, Serialize};

/// One classifier's confidences beside its accuracy, on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityReport {
    /// Layer behind which it stands; null for the final classifier.
    pub after: Option<String>,
    /// Temperature its logits were divided by.
    pub temperature: f32,
    /// Expected calibration error at a temperature of 1, 0 to 1; null where it wasn't kept.
    pub error_before: Option<f32>,
    /// Expected calibration error at its temperature and the bins of the diagram.
    #[serde(flatten)]
    pub reliability: Reliability,
}

impl ReliabilityReport {
    /// A column of the confidence table.
    pub fn new(column: &Column, labels: &[u16]) -> ReliabilityReport {
        let right = column.prediction.iter().zip(labels).map(|(p, l)| p == l);
        ReliabilityReport {
            after: column.after.clone(),
            temperature: column.temperature,
            error_before: column.raw_error,
            reliability: reliability(column.max_probability.iter().copied().zip(right)),
        }
    }

    /// Layer behind which it stands, or what the final classifier is called.
    pub fn name(&self) -> &str {
        self.after.as_deref().unwrap_or("final classifier")
    }

    /// Name, temperature, calibration error before and after it.
    pub(super) fn cells(&self) -> [String; 4] {
        let points = |x: f64| format!("{:.1} %", 100.0 * x);
        let before = self.error_before.map(|x| points(f64::from(x)));
        [
            self.name().to_string(),
            format!("{:.2}", self.temperature),
            before.unwrap_or(super::number::NONE.to_string()),
            points(self.reliability.error),
        ]
    }
}

/// Of each classifier of a plan, in order of depth, over the samples of a table.
pub fn of_plan(plan: &Plan, heads: &[HeadKey], table: &ConfidenceTable) -> Vec<ReliabilityReport> {
    let exits = plan.exits.iter().filter_map(|exit| {
        let key = HeadKey::find(heads, exit);
        table.column(&exit.after, key.map(|k| k.hash.as_str())).ok()
    });
    let of = |column: &Column| ReliabilityReport::new(column, &table.labels);
    exits.chain(table.final_column().ok()).map(of).collect()
}

/// Accuracy over confidence of each classifier, four to a chart, beside the line of those that are honest.
pub(super) fn charts(report: &Report) -> Result<Vec<String>, ReportError> {
    let mut charts = Vec::new();
    for group in report.calibration_errors.chunks(4) {
        let curve = |of: &ReliabilityReport| Curve {
            name: of.name().to_string(),
            points: of
                .reliability
                .bins
                .iter()
                .filter(|bin| bin.samples > 0)
                .map(|bin| (bin.confidence, bin.accuracy))
                .collect(),
            level: false,
        };
        let honest = Curve {
            name: "honest".to_string(),
            points: vec![(0.0, 0.0), (1.0, 1.0)],
            level: true,
        };
        let chart = Chart {
            title: "Accuracy over confidence",
            x: "confidence",
            curves: group.iter().map(curve).chain([honest]).collect(),
            y: &|y| format!("{:.0} %", 100.0 * y),
            from_zero: true,
        };
        charts.extend(chart.svg()?);
    }
    Ok(charts)
}
