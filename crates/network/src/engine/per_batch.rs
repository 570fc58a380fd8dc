/*! What is made once for each batch size. */

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Programs by the batch size they were compiled for.
#[derive(Debug)]
pub(crate) struct PerBatch<T>(Mutex<HashMap<usize, Arc<T>>>);

impl<T> PerBatch<T> {
    /// With the program for batch size 1.
    pub(crate) fn new(first: T) -> PerBatch<T> {
        PerBatch(Mutex::new(HashMap::from([(1, Arc::new(first))])))
    }

    /// The program for `batch`, compiled if there is none yet; whoever else asks meanwhile waits.
    ///
    /// # Errors
    /// What `compile` says.
    pub(crate) fn get<E>(
        &self,
        batch: usize,
        compile: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut programs = self.0.lock();
        if let Some(program) = programs.get(&batch) {
            return Ok(program.clone());
        }
        let program = Arc::new(compile()?);
        programs.insert(batch, program.clone());
        Ok(program)
    }
}
