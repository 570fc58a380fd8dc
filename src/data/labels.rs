/*! From what pictures are labelled with to classes counted from 0. */

use std::collections::{BTreeSet, HashMap};

/// The classes of a data set.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// In the order of their labels.
    pub names: Vec<String>,
    labels: HashMap<String, u16>,
    /// How the labels were read, where that isn't plain.
    pub note: Option<String>,
}

impl Classes {
    /// Classes in the order of their names, as torchvision's ImageFolder counts them.
    pub fn by_name(names: BTreeSet<&str>) -> Result<Classes, String> {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        if names.len() < 2 || names.len() > usize::from(u16::MAX) {
            let count = names.len();
            return Err(format!("{count} classes; 2 to 65535 can be told apart"));
        }
        let numbers: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
        let note = numbers.filter(|numbers| !numbers.is_sorted()).map(|_| {
            format!(
                "classes are counted in the order of their names, as torchvision does: {}, ...",
                names[..names.len().min(4)].join(", ")
            )
        });
        Ok(Classes {
            // No more than u16 counts.
            labels: (0u16..)
                .zip(&names)
                .map(|(label, name)| (name.clone(), label))
                .collect(),
            names,
            note,
        })
    }

    /// Classes from labels of a table: numbers are labels as they stand, anything else is counted in
    /// the order of the names. `known` is how many classes the network has, if that is known: the
    /// last ones may have no picture.
    pub fn by_label(labels: BTreeSet<&str>, known: Option<usize>) -> Result<Classes, String> {
        let numbers: Option<Vec<u16>> = labels.iter().map(|label| label.parse().ok()).collect();
        let Some(numbers) = numbers else {
            return Classes::by_name(labels);
        };
        let (least, largest) = match (numbers.iter().min(), numbers.iter().max()) {
            (Some(&least), Some(&largest)) if largest < u16::MAX => (least, largest),
            _ => return Classes::by_name(labels),
        };
        let from_one = least == 1 && known == Some(usize::from(largest));
        let shift = u16::from(from_one);
        let count = (usize::from(largest - shift) + 1)
            .max(known.unwrap_or(0))
            .max(2);
        Ok(Classes {
            names: (0..count).map(|class| class.to_string()).collect(),
            labels: labels
                .iter()
                .zip(&numbers)
                .map(|(label, number)| (label.to_string(), number - shift))
                .collect(),
            note: from_one.then(|| {
                format!("labels go from 1 to {largest}: 1 is taken as the first of {count} classes")
            }),
        })
    }

    /// The class of a label that the classes were made from.
    pub fn of(&self, label: &str) -> Option<u16> {
        self.labels.get(label).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case::numbers(&["0", "2", "10"], None, 11, "10", 10)]
    #[case::the_last_have_none(&["0", "2"], Some(5), 5, "2", 2)]
    #[case::from_one(&["1", "2", "3"], Some(3), 3, "3", 2)]
    #[case::from_one_unknown(&["1", "2", "3"], None, 4, "3", 3)]
    #[case::names(&["b", "a"], Some(9), 2, "b", 1)]
    #[case::synsets(&["n02", "n01", "7"], None, 3, "n01", 1)]
    fn labels_of_a_table(
        #[case] labels: &[&str],
        #[case] known: Option<usize>,
        #[case] count: usize,
        #[case] label: &str,
        #[case] class: u16,
    ) {
        let classes = Classes::by_label(labels.iter().copied().collect(), known).unwrap();
        assert_eq!(classes.names.len(), count);
        assert_eq!(classes.of(label), Some(class));
        assert_eq!(
            classes.note.is_some(),
            labels.contains(&"1") && known.is_some()
        );
    }

    #[test]
    fn folders_are_counted_as_torchvision_does() {
        let classes = Classes::by_name(["0", "1", "2", "10"].into()).unwrap();
        assert_eq!(classes.names, ["0", "1", "10", "2"]);
        assert!(
            classes
                .note
                .is_some_and(|note| note.contains("torchvision"))
        );
        assert!(Classes::by_name(["a"].into()).is_err());
        assert!(Classes::by_name(["0", "1"].into()).unwrap().note.is_none());
    }
}
