/*! Parts made ready, a few at a time: compiling one takes longer than many a request may. */

use super::error::Refused;
use super::store::Store;
use crate::protocol::message::Address;
use crate::runtime::parts::Part;
use crate::runtime::runner::{ExecutionOptions, Runner};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// Parts kept ready, those in use not counted.
const READY: usize = 4;

/// The parts of an agent.
pub(super) struct Parts {
    /// The one asked for last stands last.
    ready: Mutex<Vec<(Address, Arc<Runner>)>>,
    /// Held while one is made ready, so that none is made twice.
    making: Mutex<()>,
    options: ExecutionOptions,
}

impl Parts {
    pub(super) fn new(options: ExecutionOptions) -> Parts {
        Parts {
            ready: Mutex::default(),
            making: Mutex::default(),
            options,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Address, Arc<Runner>)>> {
        self.ready.lock()
    }

    /// The part, if it is ready.
    pub(super) fn get(&self, address: &str) -> Option<Arc<Runner>> {
        let mut ready = self.lock();
        let at = ready.iter().position(|(a, _)| a == address)?;
        let last = ready.len() - 1;
        ready[at..=last].rotate_left(1);
        Some(ready[last].1.clone())
    }

    /// Those that are ready.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.lock().iter().map(|(a, _)| a.clone()).collect()
    }

    /// The part, made ready if it isn't. Takes its time: not for the threads of the runtime.
    pub(super) fn prepare(&self, address: &str, store: &Store) -> Result<Arc<Runner>, Refused> {
        if let Some(runner) = self.get(address) {
            return Ok(runner);
        }
        let _making = self.making.lock();
        if let Some(runner) = self.get(address) {
            return Ok(runner);
        }
        let (mut file, length) = store.reader(address)?;
        let part = Part::read(&mut file, length).map_err(Refused::bad)?;
        let runner = Runner::new(part, &self.options);
        let runner = Arc::new(runner.map_err(Refused::bad)?);
        let mut ready = self.lock();
        ready.push((address.to_string(), runner.clone()));
        let idle = |r: &(Address, Arc<Runner>)| Arc::strong_count(&r.1) == 1;
        while ready.iter().filter(|r| idle(r)).count() > READY {
            let Some(oldest) = ready.iter().position(idle) else {
                break;
            };
            ready.remove(oldest);
        }
        Ok(runner)
    }
}
