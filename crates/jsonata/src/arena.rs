//! Invariants: what an evaluation allocates lives until the evaluation ends, is charged to its
//! byte budget before it is handed out, and is never dropped value by value. So freeing a
//! value of any depth costs nothing and cannot overflow the stack, and the memory of one
//! evaluation is reused by the next without touching the global allocator.
//!
//! The charge of an allocation depends on its size only, never on where it lands, so that the
//! same evaluation is over budget at the same place on every machine and on every replay.

use std::alloc::Layout;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of every allocation: enough for all that the evaluator stores.
const ALIGN: usize = 8;
/// Size of the first chunk; a small mapping fits.
const CHUNK_BYTES_FIRST: usize = 64 * 1024;
/// Chunks grow to this size, so that at most a tenth of it is lost at a chunk's end.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// What is kept between evaluations. More is given back, so that one heavy record does not
/// hold its memory for ever.
const RETAINED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The byte budget does not allow an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfBytes;

/// A bump allocator over chunks. Blocks larger than a tenth of a chunk get a block of their own.
pub(crate) struct Arena {
    chunks: RefCell<Vec<Box<[u64]>>>,
    chunks_used: Cell<usize>,
    own_blocks: RefCell<Vec<Box<[u64]>>>,
    next: Cell<*mut u8>,
    left: Cell<usize>,
    charged: Cell<usize>,
    limit: Cell<usize>,
    /// Programs that `$eval` compiled; closures of this evaluation borrow from them.
    kept: RefCell<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self {
            chunks: RefCell::new(Vec::new()),
            chunks_used: Cell::new(0),
            own_blocks: RefCell::new(Vec::new()),
            next: Cell::new(std::ptr::null_mut()),
            left: Cell::new(0),
            charged: Cell::new(0),
            limit: Cell::new(usize::MAX),
            kept: RefCell::new(Vec::new()),
        }
    }

    /// Forgets everything; `&mut` proves that nothing borrows from the arena any more.
    pub(crate) fn reset(&mut self, limit: usize) {
        self.own_blocks.get_mut().clear();
        self.kept.get_mut().clear();
        let chunks = self.chunks.get_mut();
        let mut bytes = 0;
        chunks.retain(|chunk| {
            bytes += chunk.len() * ALIGN;
            bytes <= RETAINED_BYTES_MAX
        });
        self.chunks_used.set(0);
        self.next.set(std::ptr::null_mut());
        self.left.set(0);
        self.charged.set(0);
        self.limit.set(limit);
    }

    /// Bytes charged since the last reset.
    pub(crate) fn charged(&self) -> usize {
        self.charged.get()
    }

    /// Charges memory that is held elsewhere (the tape, a compiled regex).
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), OutOfBytes> {
        let charged = self.charged.get().saturating_add(bytes);
        if charged > self.limit.get() {
            return Err(OutOfBytes);
        }
        self.charged.set(charged);
        Ok(())
    }

    fn raw(&self, layout: Layout) -> Result<NonNull<u8>, OutOfBytes> {
        debug_assert!(layout.align() <= ALIGN);
        let size = layout.size().checked_next_multiple_of(ALIGN).ok_or(OutOfBytes)?;
        if size == 0 {
            return Ok(NonNull::<u64>::dangling().cast());
        }
        self.charge(size)?;
        if size > self.left.get()
            && let Some(own) = self.refill(size)
        {
            return Ok(own);
        }
        let at = self.next.get();
        self.left.set(self.left.get() - size);
        #[expect(unsafe_code, reason = "a bump allocator hands out parts of its chunks")]
        // SAFETY: `size <= left`, and `left` bytes follow `next` in the current chunk, so both
        // `at` and `at + size` are inside it (or one past its end); `at` is not null.
        unsafe {
            self.next.set(at.add(size));
            Ok(NonNull::new_unchecked(at))
        }
    }

    /// Makes room for `size` bytes: a block of its own is returned, a new chunk is installed.
    fn refill(&self, size: usize) -> Option<NonNull<u8>> {
        let used = self.chunks_used.get();
        let mut chunks = self.chunks.borrow_mut();
        let full = CHUNK_BYTES_FIRST.saturating_mul(1 << used.min(4)).min(CHUNK_BYTES_MAX);
        // `size` is charged already. No chunk is larger than what can still be asked for.
        let wanted = full.min(self.limit.get().saturating_sub(self.charged.get()).saturating_add(size));
        let wanted = wanted.checked_next_multiple_of(ALIGN).unwrap_or(full);
        if size > full / 10 {
            let mut block = vec![0u64; size / ALIGN].into_boxed_slice();
            let at = NonNull::from(&mut *block).cast::<u8>();
            self.own_blocks.borrow_mut().push(block);
            return Some(at);
        }
        if chunks.get(used).is_none_or(|chunk| chunk.len() * ALIGN < wanted) {
            // One that an evaluation with less to ask for left is too small.
            chunks.truncate(used);
            chunks.push(vec![0u64; wanted / ALIGN].into_boxed_slice());
        }
        let chunk = &mut chunks[used];
        self.next.set(chunk.as_mut_ptr().cast());
        self.left.set(chunk.len() * ALIGN);
        self.chunks_used.set(used + 1);
        None
    }

    /// Moves a value into the arena.
    pub(crate) fn alloc<T>(&self, value: T) -> Result<&T, OutOfBytes> {
        const { assert!(!std::mem::needs_drop::<T>(), "the arena never drops") };
        const { assert!(std::mem::align_of::<T>() <= ALIGN) };
        let at = self.raw(Layout::new::<T>())?.cast::<T>();
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: `at` is aligned, valid for writes of `T`, handed out once only, and stays
        // valid until `reset`, which needs `&mut self` and so outlives this borrow.
        unsafe {
            at.write(value);
            Ok(at.as_ref())
        }
    }

    /// Copies a slice into the arena.
    pub(crate) fn alloc_slice<T: Copy>(&self, items: &[T]) -> Result<&[T], OutOfBytes> {
        const { assert!(std::mem::align_of::<T>() <= ALIGN) };
        let layout = Layout::array::<T>(items.len()).map_err(|_| OutOfBytes)?;
        let at = self.raw(layout)?.cast::<T>();
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: as in `alloc`, for `items.len()` values; the new block overlaps nothing.
        unsafe {
            std::ptr::copy_nonoverlapping(items.as_ptr(), at.as_ptr(), items.len());
            Ok(std::slice::from_raw_parts(at.as_ptr(), items.len()))
        }
    }

    /// As many cells with the same value.
    pub(crate) fn filled<T: Copy>(&self, len: usize, value: T) -> Result<&[Cell<T>], OutOfBytes> {
        const { assert!(std::mem::align_of::<T>() <= ALIGN) };
        let at = self.raw(Layout::array::<T>(len).map_err(|_| OutOfBytes)?)?.cast::<Cell<T>>();
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: as in `alloc`, for `len` values; a `Cell` has the layout of what is in it.
        unsafe {
            for i in 0..len {
                at.add(i).write(Cell::new(value));
            }
            Ok(std::slice::from_raw_parts(at.as_ptr(), len))
        }
    }

    /// Keeps a program alive until the next reset and lends it for as long as the arena.
    pub(crate) fn keep<T: Any + Send + Sync>(&self, program: Arc<T>) -> &T {
        let at: *const T = Arc::as_ptr(&program);
        self.kept.borrow_mut().push(program);
        #[expect(unsafe_code, reason = "closures made by $eval borrow from a program the arena owns")]
        // SAFETY: the Arc in `kept` keeps the target at a stable address until `reset`, which
        // needs `&mut self`; a shared borrow of the arena ends before that.
        unsafe {
            &*at
        }
    }
}

/// A vector in an arena. It charges its full new capacity whenever it grows, as the memory it
/// grew out of is not given back before the evaluation ends.
pub(crate) struct ArenaVec<'a, T: Copy> {
    arena: &'a Arena,
    at: NonNull<T>,
    len: usize,
    capacity: usize,
}

impl<'a, T: Copy> ArenaVec<'a, T> {
    pub(crate) fn new(arena: &'a Arena) -> Self {
        const { assert!(std::mem::align_of::<T>() <= ALIGN) };
        Self { arena, at: NonNull::dangling(), len: 0, capacity: 0 }
    }

    pub(crate) fn with_capacity(arena: &'a Arena, capacity: usize) -> Result<Self, OutOfBytes> {
        let mut new = Self::new(arena);
        if capacity > 0 {
            new.grow_to(capacity)?;
        }
        Ok(new)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cold]
    fn grow(&mut self, at_least: usize) -> Result<(), OutOfBytes> {
        let floor = if std::mem::size_of::<T>() == 1 { 32 } else { 4 };
        self.grow_to(at_least.max(self.capacity.saturating_mul(2)).max(floor))
    }

    fn grow_to(&mut self, capacity: usize) -> Result<(), OutOfBytes> {
        let layout = Layout::array::<T>(capacity).map_err(|_| OutOfBytes)?;
        let at = self.arena.raw(layout)?.cast::<T>();
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: `len <= capacity` values are initialised at the old place, the new block is
        // larger and does not overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(self.at.as_ptr(), at.as_ptr(), self.len);
        }
        self.at = at;
        self.capacity = capacity;
        Ok(())
    }

    pub(crate) fn push(&mut self, value: T) -> Result<(), OutOfBytes> {
        if self.len == self.capacity {
            self.grow(self.len.saturating_add(1))?;
        }
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: `len < capacity`, so the slot is inside the block.
        unsafe {
            self.at.as_ptr().add(self.len).write(value);
        }
        self.len += 1;
        Ok(())
    }

    pub(crate) fn extend(&mut self, items: &[T]) -> Result<(), OutOfBytes> {
        if self.capacity - self.len < items.len() {
            self.grow(self.len.saturating_add(items.len()))?;
        }
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: `items.len()` free slots follow `len`; `items` cannot be this block, which
        // is borrowed mutably.
        unsafe {
            std::ptr::copy_nonoverlapping(items.as_ptr(), self.at.as_ptr().add(self.len), items.len());
        }
        self.len += items.len();
        Ok(())
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: `len` values are initialised (dangling is right for none).
        unsafe {
            std::slice::from_raw_parts(self.at.as_ptr(), self.len)
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: as in `as_slice`; `&mut self` makes the access exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len)
        }
    }

    /// The finished slice; the vector is used up, so nothing can write to it any more.
    pub(crate) fn finish(self) -> &'a [T] {
        #[expect(unsafe_code, reason = "typed access to bump-allocated memory")]
        // SAFETY: as in `as_slice`; the block lives as long as the arena's borrow `'a`.
        unsafe {
            std::slice::from_raw_parts(self.at.as_ptr(), self.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charge_does_not_depend_on_what_ran_before() {
        let run = |arena: &Arena| {
            let mut v = ArenaVec::new(arena);
            for i in 0..10_000u64 {
                v.push(i).unwrap();
                arena.alloc(i).unwrap();
            }
            assert!(v.as_slice().iter().copied().eq(0..10_000));
            arena.charged()
        };
        let mut arena = Arena::new();
        arena.reset(usize::MAX);
        let first = run(&arena);
        arena.reset(usize::MAX);
        assert_eq!(first, run(&arena));
    }

    #[test]
    fn an_allocation_beyond_the_limit_is_refused_before_it_is_made() {
        let mut arena = Arena::new();
        arena.reset(1000);
        assert!(ArenaVec::<u8>::with_capacity(&arena, usize::MAX).is_err());
        assert!(ArenaVec::<u64>::with_capacity(&arena, usize::MAX / 4).is_err());
        assert!(arena.alloc_slice(&[0u8; 900]).is_ok());
        assert!(arena.alloc_slice(&[0u8; 200]).is_err());
        assert!(arena.charged() <= 1000);
    }
}
