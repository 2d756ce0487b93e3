//! The allocator: mimalloc, asked the short way.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// What every block is aligned to, whatever its size.
const ALIGNED: usize = align_of::<usize>();

/// Nearly every block wants no more than a word's alignment. The crate `mimalloc` asks for an aligned block each time, which
/// costs four times the instructions and for futures above 1 KiB ten times.
pub struct Allocator;

// SAFETY: every block comes from mimalloc and goes back to it; `mi_free` and `mi_realloc` take blocks of either kind, and blocks
// are aligned to a word at least, to more where more was asked for.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match layout.align() <= ALIGNED {
            // SAFETY: any size may be asked for.
            true => unsafe { mi::mi_malloc(layout.size()) }.cast(),
            // SAFETY: a layout's alignment is a power of two.
            false => unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) }.cast(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match layout.align() <= ALIGNED {
            // SAFETY: any size may be asked for.
            true => unsafe { mi::mi_zalloc(layout.size()) }.cast(),
            // SAFETY: a layout's alignment is a power of two.
            false => unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) }.cast(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller gives back a block of this allocator's.
        unsafe { mi::mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match layout.align() <= ALIGNED {
            // SAFETY: the caller gives a block of this allocator's.
            true => unsafe { mi::mi_realloc(block.cast(), size) }.cast(),
            // SAFETY: likewise, with the alignment it was asked for with.
            false => unsafe { mi::mi_realloc_aligned(block.cast(), size, layout.align()) }.cast(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_whole_and_kept_when_they_grow() {
        for align in [1, 2, 4, 8, 16, 64, 4096] {
            for size in [1, 7, 8, 24, 100, 1000, 1100, 5000, 100_000] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the size is not zero; every block is given back with the layout it has, and no byte beyond it is touched.
                unsafe {
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0));
                    zeroed.write_bytes(7, size);
                    Allocator.dealloc(zeroed, layout);
                    let block = Allocator.alloc(layout);
                    assert!(block.addr().is_multiple_of(align), "{size} {align}");
                    block.write_bytes(9, size);
                    let grown = Allocator.realloc(block, layout, size * 3);
                    assert!(grown.addr().is_multiple_of(align), "{size} {align}");
                    assert!((0..size).all(|at| grown.add(at).read() == 9));
                    let layout = Layout::from_size_align(size * 3, align).expect("a layout");
                    Allocator.dealloc(grown, layout);
                }
            }
        }
    }
}
