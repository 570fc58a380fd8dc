/*! Aligned memory, and disjoint pieces of it borrowed at once. */

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;

/// Alignment of every buffer: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// A page of the larger kind: the translation buffers reach much further over such. Streams of weights
/// are read 2 to 5 % faster.
const LARGE: usize = 2 << 20;

/// A zeroed, aligned block of bytes; a long one in large pages where the system has them.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// The mapping it lies in, or none where it comes from the allocator.
    mapping: Option<(NonNull<u8>, usize)>,
}

// SAFETY: the block is owned, and all access goes through `&self` or `&mut self`.
unsafe impl Send for Memory {}
// SAFETY: as above; `&self` only reads.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` zeroed bytes.
    pub(crate) fn zeroed(len: usize) -> Memory {
        if len >= LARGE {
            return Memory::mapped(len);
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory {
                start,
                len,
                mapping: None,
            },
            None => handle_alloc_error(layout),
        }
    }

    /// Pages of its own, which take room as they are touched.
    fn mapped(len: usize) -> Memory {
        let size = len.saturating_add(LARGE);
        let pages = NonZeroUsize::new(size).and_then(|size| {
            let (access, kind) = (
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            );
            // SAFETY: a new mapping at a place of the system's choice touches no other.
            unsafe { mmap_anonymous(None, size, access, kind) }.ok()
        });
        let Some(pages) = pages else {
            handle_alloc_error(Self::layout(len));
        };
        let pages: NonNull<u8> = pages.cast();
        let lead = pages.as_ptr().align_offset(LARGE);
        // SAFETY: less than LARGE, by which the mapping is longer than `len`.
        let start = unsafe { pages.add(lead) };
        #[cfg(target_os = "linux")]
        {
            use nix::sys::mman::{MmapAdvise, madvise};
            // SAFETY: these pages are of the mapping, and what they hold stays as it is. A system that
            // won't leaves them as large as usual.
            let _ =
                unsafe { madvise(start.cast(), len / LARGE * LARGE, MmapAdvise::MADV_HUGEPAGE) };
        }
        Memory {
            start,
            len,
            mapping: Some((pages, size)),
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
        match self.mapping {
            // SAFETY: mapped in `mapped` with this very size, and nothing reaches it any more.
            Some((pages, size)) => drop(unsafe { munmap(pages.cast(), size) }),
            // SAFETY: allocated in `zeroed` with this very layout.
            None => unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) },
        }
    }
}
