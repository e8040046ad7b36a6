//! What is asked of the global allocator: nothing by a small mapping once its evaluator is warm, and
//! no more than the budget by whatever means harm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use jsonata::{Bindings, Budget, Evaluator, Output, Program};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread holds, and the most that it held.
    static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(calls: u64, bytes: isize) {
    let _ = COUNT.try_with(|c| c.set(c.get() + calls));
    let _ = LIVE.try_with(|l| {
        let (live, most) = l.get();
        l.set((live + bytes, most.max(live + bytes)));
    });
}

/// Runs `f` and says how many bytes this thread held at most meanwhile, above what it held before.
pub(crate) fn most_held<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let (before, _) = LIVE.with(Cell::get);
    LIVE.with(|l| l.set((before, before)));
    let value = f();
    let (_, most) = LIVE.with(Cell::get);
    (value, usize::try_from(most - before).unwrap_or(0))
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator can only be counted by being one")]
// SAFETY: everything is passed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

const MAPPING: &str = r#"{
    "id": event.id,
    "kind": $lowercase(event.type),
    "customer": event.data.customer.name,
    "email": event.data.customer.email,
    "amount": event.data.amount,
    "total": $sum(event.data.items.(price * quantity)),
    "currency": event.data.currency,
    "first": event.data.items[0].sku,
    "skus": event.data.items.sku,
    "state": event.data.paid ? "paid" : "open",
    "source": $topic & "/" & $string($partition)
}"#;

#[test]
fn a_small_mapping_does_not_allocate() {
    let items: Vec<String> =
        (0..10).map(|i| format!(r#"{{"sku":"SKU-{i}","price":{i}.25,"quantity":{i}}}"#)).collect();
    let input = format!(
        r#"{{"event":{{"id":"evt_1","type":"Order.Created","data":{{"customer":{{"name":"Ada","email":"ada@example.com"}},
        "amount":12.50,"currency":"CZK","paid":true,"items":[{}]}}}}}}"#,
        items.join(",")
    );
    let program = Program::compile(MAPPING).expect("compiles");
    let (mut evaluator, mut output) = (Evaluator::new(), Output::new());
    let budget = Budget::default();
    let mut bindings = Bindings::new(0, 0);
    let mut once = |n: i64| {
        bindings.clear(n, 1);
        bindings.set_str("topic", "orders");
        bindings.set_number("partition", 3.0);
        evaluator.eval(&program, input.as_bytes(), &bindings, &budget, &mut output).expect("evaluates");
        output.as_bytes().len()
    };
    let len = (0..10).map(&mut once).max().expect("some");
    let before = COUNT.with(Cell::get);
    for n in 0..100 {
        assert_eq!(once(n), len);
    }
    let after = COUNT.with(Cell::get);
    assert_eq!(after - before, 0, "allocations in 100 evaluations");
}
