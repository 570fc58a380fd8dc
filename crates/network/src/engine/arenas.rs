/*! The blocks that runs work in. Engines that run one after the other share them: a run reads nothing
that an earlier run left. */

use super::kernels::memory::Memory;
use parking_lot::Mutex;

/// Blocks that wait for the next run, as many as runs went on at a time.
#[derive(Debug, Default)]
pub(crate) struct Arenas(Mutex<Vec<Memory>>);

impl Arenas {
    /// A block of at least so many bytes: the smallest that waits, or else a new one in the place of
    /// one that is too small.
    pub(crate) fn take(&self, bytes: usize) -> Memory {
        let mut waiting = self.0.lock();
        let fits = waiting.iter().enumerate().filter(|(_, m)| m.len() >= bytes);
        if let Some((at, _)) = fits.min_by_key(|(_, m)| m.len()) {
            return waiting.swap_remove(at);
        }
        let small = waiting.pop();
        drop((waiting, small));
        Memory::zeroed(bytes)
    }

    /// Gives a block back.
    pub(crate) fn give(&self, block: Memory) {
        self.0.lock().push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_grows_and_is_kept() {
        let arenas = Arenas::default();
        for (asked, found) in [(128, 128), (64, 128), (256, 256), (128, 256)] {
            let block = arenas.take(asked);
            assert_eq!(block.len(), found);
            arenas.give(block);
        }
        assert_eq!(arenas.0.lock().len(), 1);
        let two = [arenas.take(64), arenas.take(64)];
        assert_eq!(two.each_ref().map(Memory::len), [256, 64]);
    }
}
