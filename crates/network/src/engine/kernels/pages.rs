/*! Pages of the larger kind: the translation buffers reach much further over such. */

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// Zeroed pages of a process's own, large ones where the system has them. They take room as they are
/// touched. Streams of weights are read 2 to 5 % faster from large ones.
#[derive(Debug)]
pub(super) struct Pages {
    mapping: NonNull<u8>,
    size: usize,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to no thread.
unsafe impl Send for Pages {}
// SAFETY: as above, and nothing in here reads or writes what it holds.
unsafe impl Sync for Pages {}

impl Pages {
    /// Bytes of a large page.
    pub(super) const LARGE: usize = 2 << 20;

    /// At least `len` bytes, unless the system has no room for them.
    pub(super) fn new(len: usize) -> Option<Pages> {
        let size = len.checked_add(Pages::LARGE)?;
        let (access, kind) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        );
        // SAFETY: a new mapping at a place of the system's choice touches no other.
        let mapping = unsafe { mmap_anonymous(None, NonZeroUsize::new(size)?, access, kind) };
        let mapping: NonNull<u8> = mapping.ok()?.cast();
        let lead = mapping.as_ptr().align_offset(Pages::LARGE);
        // SAFETY: less than LARGE, by which the mapping is longer than `len`.
        let start = unsafe { mapping.add(lead) };
        let pages = Pages {
            mapping,
            size,
            start,
            len,
        };
        // Over pages of more than 4 KB the larger kind has 32 MB and more: too much to take at a touch.
        #[cfg(target_os = "linux")]
        if page() == Some(4096) {
            use nix::sys::mman::{MmapAdvise, madvise};
            let large = len / Pages::LARGE * Pages::LARGE;
            // SAFETY: these pages are of the mapping, and what they hold stays as it is. A system that
            // won't leaves them as large as usual.
            let _ = unsafe { madvise(start.cast(), large, MmapAdvise::MADV_HUGEPAGE) };
        }
        Some(pages)
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Lets go of what a block of them took that nobody uses any more, whole pages of it, while others
    /// stay.
    pub(super) fn give_back(&self, block: NonNull<u8>, len: usize) {
        #[cfg(target_os = "linux")]
        if let Some(page) = page() {
            use nix::sys::mman::{MmapAdvise, madvise};
            let lead = block.as_ptr().align_offset(page);
            let whole = len.saturating_sub(lead) / page * page;
            if whole > 0 {
                // SAFETY: these pages lie within the block, which is of this mapping, and nothing
                // reaches them any more.
                let _ =
                    unsafe { madvise(block.add(lead).cast(), whole, MmapAdvise::MADV_DONTNEED) };
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (block, len);
    }
}

/// Bytes of a page of the usual kind.
#[cfg(target_os = "linux")]
fn page() -> Option<usize> {
    use nix::unistd::{SysconfVar, sysconf};
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    usize::try_from(page).ok()
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this very size, and nothing reaches it any more.
        let _ = unsafe { munmap(self.mapping.cast(), self.size) };
    }
}
