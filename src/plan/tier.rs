/*! The devices a sample passes on its way, in order, and what they are called. */

use serde::{Deserialize, Serialize};

/// A tier by its place in the chain: the first is where samples begin, each next one is asked when
/// the one before isn't confident. A chain has one to four.
///
/// Files of version 1 knew two and called them `edge` and `cloud`; they read as the first and the
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nearest to the sample.
    #[serde(alias = "edge")]
    First,
    /// Behind the first link.
    #[serde(alias = "cloud")]
    Second,
    /// Behind the second link.
    Third,
    /// Behind the third link.
    Fourth,
}

impl Tier {
    /// Every tier there can be, in order.
    pub const ALL: [Tier; 4] = [Tier::First, Tier::Second, Tier::Third, Tier::Fourth];

    /// The tier at a place counted from 0; `None` from 4 on.
    pub fn at(index: usize) -> Option<Tier> {
        Tier::ALL.get(index).copied()
    }

    /// Its place, counted from 0.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The tiers of a chain of `count`, in order; at most four.
    pub fn chain(count: usize) -> impl DoubleEndedIterator<Item = Tier> + Clone {
        Tier::ALL.into_iter().take(count)
    }

    /// What the tier is called in a chain of `count` tiers where the session gives no name of its own:
    /// `edge` and `cloud` for two, `device`, `edge` and `cloud` for three.
    pub fn usual_name(self, count: usize) -> &'static str {
        const NAMES: [&[&str]; 5] = [
            &[],
            &["edge"],
            &["edge", "cloud"],
            &["device", "edge", "cloud"],
            &["device", "edge", "region", "cloud"],
        ];
        let names = NAMES.get(count).copied().unwrap_or_default();
        names.get(self.index()).copied().unwrap_or("tier")
    }
}

/// What the tiers of a chain are called, in order: one to four names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierNames(Vec<String>);

impl TierNames {
    /// The usual names of a chain of `count` tiers, at least one and at most four.
    pub fn usual(count: usize) -> TierNames {
        let count = count.clamp(1, Tier::ALL.len());
        let names = Tier::chain(count).map(|t| t.usual_name(count).to_string());
        TierNames(names.collect())
    }

    /// The names a session gives, in order; the usual ones where it gives none. What is beyond the
    /// fourth is left aside.
    pub fn new(names: impl IntoIterator<Item = String>) -> TierNames {
        let names: Vec<String> = names.into_iter().take(Tier::ALL.len()).collect();
        if names.is_empty() {
            return TierNames::usual(2);
        }
        TierNames(names)
    }

    /// How many tiers there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The tiers, in order.
    pub fn tiers(&self) -> impl DoubleEndedIterator<Item = Tier> + Clone {
        Tier::chain(self.0.len())
    }

    /// What a tier is called; its usual name where the chain is shorter.
    pub fn name(&self, tier: Tier) -> &str {
        let own = self.0.get(tier.index()).map(String::as_str);
        own.unwrap_or(tier.usual_name(Tier::ALL.len()))
    }

    /// The tier of this name.
    pub fn find(&self, name: &str) -> Option<Tier> {
        let at = self.0.iter().position(|n| n == name)?;
        Tier::at(at)
    }

    /// All names, in order.
    pub fn all(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

impl Default for TierNames {
    fn default() -> Self {
        TierNames::usual(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(1, &["edge"])]
    #[case(2, &["edge", "cloud"])]
    #[case(3, &["device", "edge", "cloud"])]
    #[case(4, &["device", "edge", "region", "cloud"])]
    fn a_chain_has_usual_names(#[case] count: usize, #[case] names: &[&str]) {
        let usual: Vec<&str> = Tier::chain(count).map(|t| t.usual_name(count)).collect();
        assert_eq!(usual, names);
    }

    #[rstest]
    #[case("edge", Tier::First)]
    #[case("cloud", Tier::Second)]
    #[case("third", Tier::Third)]
    fn the_names_of_version_1_still_read(#[case] text: &str, #[case] tier: Tier) {
        assert_eq!(ron::from_str::<Tier>(text).unwrap(), tier);
        assert_eq!(
            serde_json::from_str::<Tier>(&format!("\"{text}\"")).unwrap(),
            tier
        );
    }
}
