/*! Aligned memory, and disjoint pieces of it borrowed at once. */

use super::pages::Pages;
use parking_lot::Mutex;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// Alignment of every buffer: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// Bytes of a shelf, which take room as they are touched.
const SHELF: usize = 128 << 20;

/// A zeroed, aligned block of bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// The pages it lies in, or none where it comes from the allocator.
    pages: Option<Arc<Pages>>,
}

// SAFETY: the block is owned, and all access goes through `&self` or `&mut self`.
unsafe impl Send for Memory {}
// SAFETY: as above; `&self` only reads.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` zeroed bytes; many in large pages where the system has them.
    pub(crate) fn zeroed(len: usize) -> Memory {
        if len >= Pages::LARGE {
            let Some(pages) = Pages::new(len) else {
                handle_alloc_error(Self::layout(len));
            };
            return Memory {
                start: pages.start(),
                len,
                pages: Some(Arc::new(pages)),
            };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory {
                start,
                len,
                pages: None,
            },
            None => handle_alloc_error(layout),
        }
    }

    /// `len` zeroed bytes for what stays as it is: blocks one behind the other in large pages, which go
    /// with the last of them.
    pub(crate) fn shelved(len: usize) -> Memory {
        static LAST: Mutex<(Weak<Pages>, usize)> = Mutex::new((Weak::new(), 0));
        let Some(size) = len.checked_next_multiple_of(ALIGN) else {
            return Memory::zeroed(len);
        };
        let mut last = LAST.lock();
        let (shelf, used) = &mut *last;
        let mut pages = shelf.upgrade().filter(|pages| size <= pages.len() - *used);
        if pages.is_none() && size <= SHELF {
            pages = Pages::new(SHELF).map(Arc::new);
            (*shelf, *used) = (pages.as_ref().map_or_else(Weak::new, Arc::downgrade), 0);
        }
        let Some(pages) = pages else {
            return Memory::zeroed(len);
        };
        // SAFETY: so many bytes are left there, as just looked at.
        let start = unsafe { pages.start().add(*used) };
        *used += size;
        Memory {
            start,
            len,
            pages: Some(pages),
        }
    }

    fn layout(len: usize) -> Layout {
        let size = len.max(1).next_multiple_of(ALIGN);
        match Layout::from_size_align(size, ALIGN) {
            Ok(layout) => layout,
            // More bytes than an address space has: no allocator can serve that.
            Err(_) => handle_alloc_error(Layout::new::<u64>()),
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: start points to `len` initialised bytes, owned by self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and self is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Borrows `shared` to read and `exclusive` to write at once. Panics where a range lies
    /// outside, or an exclusive one overlaps any other; plans are made so that none does.
    pub(crate) fn split(
        &mut self,
        shared: &[Range<usize>],
        exclusive: &[Range<usize>],
    ) -> (Vec<&[u8]>, Vec<&mut [u8]>) {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        for (i, range) in exclusive.iter().enumerate() {
            let mut others = shared.iter().chain(&exclusive[..i]);
            assert!(
                !others.any(|other| overlap(range, other)),
                "overlapping tensors"
            );
        }
        let all = shared.iter().chain(exclusive);
        assert!(all.clone().all(|r| r.start <= r.end && r.end <= self.len));
        let start = self.start.as_ptr();
        let read = shared.iter().map(|r| {
            // SAFETY: within the block, and no exclusive range overlaps it (checked above); both
            // borrows end with the borrow of self.
            unsafe { std::slice::from_raw_parts(start.add(r.start), r.end - r.start) }
        });
        let write = exclusive.iter().map(|r| {
            // SAFETY: within the block, and no other range overlaps it (checked above).
            unsafe { std::slice::from_raw_parts_mut(start.add(r.start), r.end - r.start) }
        });
        (read.collect(), write.collect())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &self.pages {
            Some(pages) if Arc::strong_count(pages) > 1 => pages.give_back(self.start, self.len),
            // The last block's go with it.
            Some(_) => {}
            // SAFETY: allocated in `zeroed` with this very layout.
            None => unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shelved_blocks_are_zeroed_and_aligned() {
        for len in [0, 1, 64, 100, 1 << 20, SHELF - 5, 3, SHELF + 1, 200_000] {
            for round in 0..2 {
                let mut block = Memory::shelved(len);
                assert_eq!(block.bytes().len(), len);
                assert_eq!(block.as_mut_ptr().align_offset(ALIGN), 0);
                assert!(
                    block.bytes().iter().all(|&b| b == 0),
                    "{len}, round {round}"
                );
                block.bytes_mut().fill(7);
            }
        }
    }

    #[test]
    fn what_a_block_gives_back_is_its_own_alone() {
        for len in [1, 4000, 70_000, 200_000, 3 << 20] {
            let mut blocks: Vec<Memory> = (0..9).map(|_| Memory::shelved(len)).collect();
            for (fill, block) in (1..).zip(&mut blocks) {
                block.bytes_mut().fill(fill);
            }
            let mut kept = vec![];
            for (fill, block) in (1..).zip(blocks) {
                if fill % 2 == 0 {
                    kept.push((fill, block));
                }
            }
            for (fill, block) in kept {
                assert!(block.bytes().iter().all(|&b| b == fill), "{len}");
            }
        }
    }
}
