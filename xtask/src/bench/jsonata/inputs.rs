//! The webhook of a shop, at any size. All of it grows with the size: at 1 KiB an order has 2 items, at 10 KiB
//! it has 20, and about half of the bytes are items, each with five fields that no mapping here reads. The other half
//! is what webhooks carry besides and mappings seldom read: links, addresses, tax and shipping lines, what
//! happened to the order so far. No white space, as senders write it.

use std::fmt::Write as _;

const TITLES: [&str; 6] = [
    "Hex bolt M8, zinc plated",
    "Steel bracket 90 degrees",
    "Wood glue, 750 ml",
    "Brass hinge, small",
    "Sandpaper P120, 10 sheets",
    "Oak dowel 12 mm",
];
const FAMILIES: [&str; 6] = ["BOLT", "BRACKET", "GLUE", "HINGE", "PAPER", "DOWEL"];
const KINDS: [&str; 4] = ["hardware", "adhesive", "abrasive", "timber"];

/// An order's event of about `kib` KiB.
pub(super) fn order(kib: usize) -> String {
    let mut items = String::new();
    for i in 0..kib * 2 {
        let (a, n) = (i * 5 % 6, i * 7 % 40);
        let _ = write!(
            items,
            r#"{}{{"id":{},"sku":"{}-{:04}","title":"{}","kind":"{}","price":{}.{:02},"quantity":{},"grams":{},"days":{},"taxable":true,"tax":{{"rate":0.21,"title":"VAT"}},"image":"https://cdn.example.com/p/{}.jpg","properties":[],"discount":null}}"#,
            if i > 0 { "," } else { "" },
            90_071_992_500 + i,
            FAMILIES[a],
            1_000 + n,
            TITLES[a],
            KINDS[i * 3 % 4],
            3 + n,
            n * 2 + 5,
            1 + i % 4,
            120 + n * 15,
            1 + i % 9,
            7_000 + i,
        );
    }
    let mut history = String::new();
    for i in 0..(kib - 1) * 2 {
        let _ = write!(
            history,
            r#"{}{{"at":"2026-03-{:02}T10:{:02}:36Z","what":"payment.{}","by":{{"id":{},"login":"clerk-{}","url":"https://api.example.com/staff/{}","admin":false}},"note":"reference 4711/{}, checked \"by hand\""}}"#,
            if i > 0 { "," } else { "" },
            1 + i % 28,
            i % 60,
            ["authorised", "captured"][i % 2],
            500 + i,
            i % 7,
            500 + i,
            i,
        );
    }
    let mut links = String::new();
    for i in 0..(kib - 1) * 2 {
        let _ = write!(
            links,
            r#"{}"rel_{i}_url":"https://api.example.com/v2/orders/4711/relations/{i}{{/id}}","rel_{i}_count":{}"#,
            if i > 0 { "," } else { "" },
            i * 3,
        );
    }
    format!(
        r#"{{"id":"evt_01HV3Z","api":"2026-01","created":"2026-03-23T10:33:36.617Z","links":{{{links}}},"data":{{"order":{{"id":4711,"number":"2026-004711","history":[{history}],"customer":{{"id":88,"name":"Ada Nováková","email":"ada@example.com","tags":["b2b","vip"]}},"shipping":{{"street":"Dlouhá 12","city":"Praha","zip":"110 00","country":"CZ"}},"items":[{items}],"total":1284.50,"currency":"CZK","paid":true}}}},"type":"order.created","livemode":true}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn an_order_has_the_size_that_was_asked_for() {
        for kib in [1, 10, 100] {
            let text = order(kib);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            let off = text.len() as f64 / (kib * 1024) as f64;
            assert!((0.9..1.1).contains(&off), "{kib} KiB: {} bytes", text.len());
        }
    }
}
