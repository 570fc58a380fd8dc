/*! Plans as files hold them: those of version 1 knew one split and kept sentences. */

use super::{PlannedExit, Remark, Sends, Split};
use serde::Deserialize;

/// A plan of either version: version 1 has `split`, `split_after` and `notes`.
#[derive(Deserialize)]
pub(super) struct Plan {
    #[serde(default)]
    splits: Vec<Split>,
    #[serde(default)]
    split_layers: Vec<Option<String>>,
    #[serde(default)]
    split: Option<Split>,
    #[serde(default)]
    split_after: Option<String>,
    exits: Vec<PlannedExit>,
    #[serde(default)]
    sends: Sends,
    #[serde(default)]
    remarks: Vec<Remark>,
    #[serde(default)]
    notes: Vec<String>,
}

impl From<Plan> for super::Plan {
    fn from(stored: Plan) -> super::Plan {
        let (splits, mut split_layers) = match stored.split {
            Some(split) => (vec![split], vec![stored.split_after]),
            None => (stored.splits, stored.split_layers),
        };
        split_layers.resize(splits.len(), None);
        let mut remarks = stored.remarks;
        remarks.extend(stored.notes.into_iter().map(Remark::Said));
        super::Plan {
            splits,
            split_layers,
            exits: stored.exits,
            sends: stored.sends,
            remarks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, PlannedExit, Remark, Sends, Split, Tier};
    use rstest::rstest;

    #[rstest]
    #[case("After(4)", Split::After(4))]
    #[case("EdgeOnly", Split::End)]
    #[case("CloudOnly", Split::Start)]
    fn a_plan_of_version_1_is_one_of_two_tiers(#[case] split: &str, #[case] expected: Split) {
        let text = format!(
            "(split:{split},split_after:Some(\"b4\"),exits:[(layer:1,after:\"b1\",part:edge,\
             threshold:0.7),(layer:6,after:\"b6\",part:cloud,threshold:0.7)],notes:[\"why\"])"
        );
        // As sessions are read.
        let implicit = ron::extensions::Extensions::IMPLICIT_SOME;
        let options = ron::Options::default().with_default_extension(implicit);
        let plan: Plan = options.from_str(&text).unwrap();
        let exit = |layer: usize, tier| PlannedExit {
            layer,
            after: format!("b{layer}"),
            tier,
            threshold: 0.7,
        };
        let now = Plan {
            splits: vec![expected],
            split_layers: vec![Some("b4".into())],
            exits: vec![exit(1, Tier::First), exit(6, Tier::Second)],
            sends: Sends::Tensor,
            remarks: vec![Remark::Said("why".into())],
        };
        assert_eq!(plan, now);
        let written = options.to_string(&now).unwrap();
        assert_eq!(options.from_str::<Plan>(&written).unwrap(), now);
        let json = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), now);
    }
}
