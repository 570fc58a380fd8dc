/*! The memory that all requests in flight may take together: bodies, what is read from them, answers. */

use super::error::Refused;
use crate::protocol::message::RefusalKind;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that are counted as one.
const UNIT: usize = 1 << 10;

/// The budget of an agent.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    /// Bytes that all requests in flight may hold together.
    bytes: usize,
}

/// Bytes taken of the budget, given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Charge(Option<OwnedSemaphorePermit>);

impl Charge {
    /// Counts other bytes together with these.
    pub(super) fn add(&mut self, more: Charge) {
        match (&mut self.0, more.0) {
            (Some(own), Some(more)) => own.merge(more),
            (own @ None, more) => *own = more,
            (Some(_), None) => {}
        }
    }
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        let units = (bytes / UNIT).min(u32::MAX as usize);
        Budget {
            free: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            bytes,
        }
    }

    /// Gives the bytes that all requests in flight may hold together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many bytes at once: whoever waited with some in hand could wait for ever.
    ///
    /// # Errors
    /// Busy where they are not to be had now.
    pub(super) fn take(&self, bytes: usize) -> Result<Charge, Refused> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        match self.free.clone().try_acquire_many_owned(units) {
            Ok(permit) => Ok(Charge(Some(permit))),
            Err(_) => Err(self.exhausted()),
        }
    }

    /// The refusal for bytes that are not to be had now.
    pub(super) fn exhausted(&self) -> Refused {
        Refused::new(
            RefusalKind::Busy,
            format!(
                "requests in flight take the {} there are for them; try again, or start the agent \
                 with a larger --max-in-flight",
                crate::units::bytes(self.bytes as f64)
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = Budget::new(10 << 10);
        let mut six = budget.take(5 << 10).unwrap();
        six.add(budget.take(1).unwrap());
        let four = budget.take(4 << 10).unwrap();
        let refused = budget.take(1).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Busy);
        drop(four);
        assert!(budget.take((4 << 10) + 1).is_err());
        drop(six);
        budget.take(10 << 10).unwrap();
        assert!(budget.take(usize::MAX).is_err());
    }
}
