//! An allocator that counts how often one thread of this process takes memory.
//!
//! Only one thread is watched at a time, so what the test itself and the peers that it plays take does not count. Memory that is given
//! back does not count either: whoever gives some back in steady state has taken it there too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Counts how often `thread` takes memory, from now on.
pub(crate) fn watch(thread: i32) {
    WATCHED.store(thread, Ordering::SeqCst);
}

/// How often the threads watched so far have taken memory while they were.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::SeqCst)
}

/// Says on standard error where the memory of the next `count` allocations is taken.
pub(crate) fn trace(count: u64) {
    TRACED.store(count, Ordering::SeqCst);
}

static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static TRACED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The kernel's number of this thread, 0 until it has been asked for.
    static THREAD: Cell<i32> = const { Cell::new(0) };
    /// What a trace takes itself is not traced.
    static IS_TRACING: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: Everything is left to the system's allocator. What is done besides neither unwinds nor takes memory, but for a trace,
// which does not trace itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: The caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: As above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: As above.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: As above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn count() {
    if WATCHED.load(Ordering::Relaxed) != this_thread() || IS_TRACING.get() {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if TRACED.load(Ordering::Relaxed) > 0 {
        TRACED.fetch_sub(1, Ordering::Relaxed);
        IS_TRACING.set(true);
        // Neither panics, as an allocator must not, nor waits in the test's captured output.
        let trace = Backtrace::force_capture();
        let _ = writeln!(io::stderr(), "takes memory:\n{trace}");
        IS_TRACING.set(false);
    }
}

fn this_thread() -> i32 {
    match THREAD.get() {
        0 => {
            // SAFETY: A system call without arguments.
            let thread = unsafe { libc::gettid() };
            THREAD.set(thread);
            thread
        }
        thread => thread,
    }
}
