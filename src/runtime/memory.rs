/*!
Whether there is memory for a run: a small file can describe a network whose values fill any machine,
and memory that can't be had ends the whole process. So it is looked at before anything is made.
*/

use super::RunnerError;
use crate::device::memory::MachineMemory;
use std::path::Path;

/// Below this nobody needs to look: a look costs as much as a small offload.
const SMALL: usize = 64 << 20;
/// What kernels take besides the values, as a factor: copies in another order, padded edges.
const BESIDES: usize = 2;

/// Whether the machine has so much memory to give.
///
/// # Errors
/// [`RunnerError::Memory`] where it hasn't.
pub(crate) fn check(bytes: usize) -> Result<(), RunnerError> {
    let needed = bytes.saturating_mul(BESIDES);
    if needed <= SMALL {
        return Ok(());
    }
    // A system that doesn't tell: what an allocator can't give is then seen when it is asked.
    let Ok(memory) = MachineMemory::read(Path::new("/")) else {
        return Ok(());
    };
    let available = memory.available_bytes;
    match needed <= available {
        true => Ok(()),
        false => Err(RunnerError::Memory { needed, available }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_machine_has_is_refused() {
        assert!(check(usize::MAX).is_err() && check(1).is_ok());
    }
}
