/*!
Confidence tables: built column by column from a classifier's scores, found again by (layer, hash of
the rendered head).
*/

use super::policy::{Decision, Output, PolicyError, decide};
use super::{Column, Confidence, ConfidenceTable};
use crate::data::Set;

/// What is wrong with a table, or with a question to it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// Scores that aren't whole samples.
    #[error("{found} scores are not a multiple of {classes} classes")]
    Ragged {
        /// Length that was given.
        found: usize,
        /// Classes of the network.
        classes: usize,
    },
    /// A sample's scores are no good.
    #[error("sample {sample}: {source}")]
    Sample {
        /// Number of the sample in its set.
        sample: usize,
        /// Reason that the confidences can't be computed.
        source: PolicyError,
    },
    /// A column that covers other samples than the table.
    #[error("the column after `{after}` has {found} samples, the table has {expected}")]
    Length {
        /// Layer, or "the final classifier".
        after: String,
        /// Samples of the column.
        found: usize,
        /// Samples of the table.
        expected: usize,
    },
    /// No head stands there.
    #[error("the {set} table has no head after `{after}`; train one, or take another exit")]
    Missing {
        /// The layer asked for.
        after: String,
        /// Set of samples that the table is of.
        set: Set,
    },
    /// Every replay ends in the final classifier.
    #[error("the {set} table lacks the network's final classifier; build it afresh")]
    NoFinal {
        /// Set of samples that the table is of.
        set: Set,
    },
}

impl Column {
    /// An empty column; `after` is `None` for the network's own final classifier.
    pub fn new(after: Option<&str>, head: &str, temperature: f32) -> Column {
        Column {
            after: after.map(str::to_owned),
            head: head.to_owned(),
            temperature,
            raw_error: None,
            prediction: Vec::new(),
            max_probability: Vec::new(),
            entropy: Vec::new(),
            margin: Vec::new(),
        }
    }

    /// Appends a batch: `scores` is `[N, classes]`, row-major. On an error nothing is appended.
    pub fn extend(
        &mut self,
        scores: &[f32],
        classes: usize,
        output: Output,
    ) -> Result<(), TableError> {
        if classes == 0 || !scores.len().is_multiple_of(classes) {
            let found = scores.len();
            return Err(TableError::Ragged { found, classes });
        }
        let first = self.len();
        let rows = scores.chunks_exact(classes).enumerate();
        let decisions: Vec<Decision> = rows
            .map(|(row, scores)| {
                decide(scores, output, self.temperature).map_err(|source| TableError::Sample {
                    sample: first + row,
                    source,
                })
            })
            .collect::<Result<_, _>>()?;
        for decision in decisions {
            self.prediction.push(decision.prediction);
            self.max_probability.push(decision.max_probability);
            self.entropy.push(decision.entropy);
            self.margin.push(decision.margin);
        }
        Ok(())
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.prediction.len()
    }

    /// Whether no sample is in yet.
    pub fn is_empty(&self) -> bool {
        self.prediction.is_empty()
    }

    /// The confidence of every sample by the given measure; by one that looks at the exits before, which a
    /// column alone doesn't know, the largest probability ([`Decision::confidence`]).
    pub fn confidence(&self, measure: Confidence) -> &[f32] {
        match measure {
            Confidence::MaxProbability | Confidence::Patience | Confidence::Learned => {
                &self.max_probability
            }
            Confidence::Entropy => &self.entropy,
            Confidence::Margin => &self.margin,
        }
    }

    /// Share of samples predicted right, 0 to 1; 0 for no samples.
    pub fn accuracy(&self, labels: &[u16]) -> f64 {
        let pairs = self.prediction.iter().zip(labels);
        let right = pairs.filter(|(prediction, label)| prediction == label);
        right.count() as f64 / labels.len().max(1) as f64
    }
}

impl ConfidenceTable {
    /// A table for samples of these true classes, without columns yet.
    pub fn new(set: Set, labels: Vec<u16>) -> ConfidenceTable {
        let columns = Vec::new();
        ConfidenceTable {
            set,
            labels,
            columns,
        }
    }

    /// Adds a column, in place of one with the same key. Push in order of depth: the final
    /// classifier always stays last.
    pub fn push(&mut self, column: Column) -> Result<(), TableError> {
        let fits = [column.entropy.len(), column.margin.len()]
            .into_iter()
            .chain([column.max_probability.len(), column.len()])
            .all(|len| len == self.labels.len());
        if !fits {
            return Err(TableError::Length {
                after: column.after.unwrap_or("the final classifier".into()),
                found: column.prediction.len(),
                expected: self.labels.len(),
            });
        }
        let same = |c: &Column| c.after == column.after && c.head == column.head;
        if let Some(old) = self.columns.iter().position(same) {
            self.columns[old] = column;
            return Ok(());
        }
        let last = self.columns.last().is_some_and(|c| c.after.is_none());
        if last && column.after.is_some() {
            self.columns.insert(self.columns.len() - 1, column);
        } else {
            self.columns.push(column);
        }
        Ok(())
    }

    /// The column of the head after this layer, of this hash; of any hash if `head` is `None`.
    pub fn column(&self, after: &str, head: Option<&str>) -> Result<&Column, TableError> {
        let found = self
            .columns
            .iter()
            .find(|c| c.after.as_deref() == Some(after) && head.is_none_or(|hash| c.head == hash));
        found.ok_or_else(|| TableError::Missing {
            after: after.to_owned(),
            set: self.set,
        })
    }

    /// The column of the network's own final classifier.
    pub fn final_column(&self) -> Result<&Column, TableError> {
        let found = self.columns.iter().find(|c| c.after.is_none());
        found.ok_or(TableError::NoFinal { set: self.set })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(after: Option<&str>, head: &str) -> Column {
        let mut column = Column::new(after, head, 1.0);
        let scores = [2.0, 1.0, 0.0, 4.0];
        column.extend(&scores, 2, Output::Logits).unwrap();
        column
    }

    #[test]
    fn columns_are_found_by_layer_and_head() {
        let mut table = ConfidenceTable::new(Set::Test, vec![0, 0]);
        table.push(column(None, "")).unwrap();
        table.push(column(Some("a"), "1")).unwrap();
        table.push(column(Some("a"), "2")).unwrap();
        table.push(column(Some("a"), "2")).unwrap();
        assert_eq!(table.columns.len(), 3);
        assert_eq!(table.columns[2].after, None);
        assert_eq!(table.column("a", Some("2")).unwrap().head, "2");
        assert!(table.column("a", Some("3")).is_err());
        assert!(table.column("b", None).is_err());
        assert_eq!(table.final_column().unwrap().prediction, [0, 1]);
        assert_eq!(table.final_column().unwrap().accuracy(&table.labels), 0.5);
    }

    #[test]
    fn a_bad_batch_names_its_sample_and_leaves_the_column_alone() {
        let mut c = column(Some("a"), "1");
        let error = c.extend(&[0.0, 1.0, f32::NAN, 0.0], 2, Output::Logits);
        assert!(error.unwrap_err().to_string().starts_with("sample 3"));
        assert_eq!(c.len(), 2);
        assert!(c.extend(&[0.0], 2, Output::Logits).is_err());
        let mut table = ConfidenceTable::new(Set::Test, vec![0]);
        assert!(table.push(c).is_err());
    }
}
