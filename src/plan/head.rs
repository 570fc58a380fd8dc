/*! Which head stands at an exit. */

use super::Tier;
use crate::exits::Head;

/// A head made for one tier: its exits take it, and so do those of every tier for which none was made.
#[derive(Debug, Clone, PartialEq)]
pub struct TierHead {
    /// Tier that it was made for.
    pub tier: Tier,
    /// Graph, exit point and costs.
    pub head: Head,
    /// Divisor of its scores, above 0; 1 until it is fitted on calibration images.
    pub temperature: f32,
}

impl TierHead {
    /// A head whose temperature isn't fitted yet.
    pub fn new(tier: Tier, head: Head) -> TierHead {
        TierHead {
            tier,
            head,
            temperature: 1.0,
        }
    }

    /// The head of an exit of a tier behind the layer `after`; absent where none stands there.
    pub fn find<'a>(heads: &'a [TierHead], after: &str, tier: Tier) -> Option<&'a TierHead> {
        let here = heads.iter().filter(|h| h.head.point.after == after);
        tier.own_or_first(here, |h| h.tier)
    }
}

impl Tier {
    /// Of things made for single tiers, in order: the one for this tier, else the first, which serves every
    /// tier that has none.
    pub fn own_or_first<T>(
        self,
        made: impl Iterator<Item = T>,
        tier: impl Fn(&T) -> Tier,
    ) -> Option<T> {
        let mut made = made.peekable();
        if made.peek().is_some_and(|first| tier(first) == self) {
            return made.next();
        }
        let first = made.next()?;
        Some(made.find(|one| tier(one) == self).unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], None)]
    #[case(&[Tier::First], Some(0))]
    #[case(&[Tier::First, Tier::Third], Some(0))]
    #[case(&[Tier::First, Tier::Second], Some(1))]
    #[case(&[Tier::Second, Tier::First], Some(0))]
    fn a_tier_takes_its_own_or_the_first(#[case] made: &[Tier], #[case] taken: Option<usize>) {
        let found = Tier::Second.own_or_first(made.iter().enumerate(), |(_, tier)| **tier);
        assert_eq!(found.map(|(at, _)| at), taken);
    }
}
