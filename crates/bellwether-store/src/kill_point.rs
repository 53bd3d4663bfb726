//! Named places around a commit at which a test can have the process killed, for real: by SIGKILL, in the middle of its work.
//!
//! `BELLWETHER_KILL_AT=NAME:N` kills the process when it comes to the place for the N-th time (N from 1). The variable is read in
//! builds with debug assertions only; in release builds a place is an empty function, and nothing of this is compiled in.
//!
//! Not the crate `fail`: its actions cannot kill, its registry takes a lock at each passage, and it brings a random number
//! generator of its own.

/// The process comes by the place of this name.
#[cfg(not(debug_assertions))]
#[inline]
pub fn pass(_name: &'static str) {}

/// The process comes by the place of this name.
#[cfg(debug_assertions)]
pub fn pass(name: &'static str) {
    if let Some(order) = armed::order()
        && order.name == name
    {
        order.pass();
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const VARIABLE: &str = "BELLWETHER_KILL_AT";

    /// Where to die, and at which passage.
    #[derive(Debug)]
    pub(super) struct Order {
        pub(super) name: String,
        passage: u64,
        passed: AtomicU64,
    }

    impl Order {
        /// Reads `NAME:N`.
        pub(super) fn read(text: &str) -> Option<Order> {
            let (name, passage) = text.rsplit_once(':')?;
            let passage = passage.parse().ok().filter(|passage| *passage > 0)?;
            Some(Order { name: name.to_owned(), passage, passed: AtomicU64::new(0) })
        }

        pub(super) fn pass(&self) {
            if self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.passage {
                eprintln!("killed at {}, passage {}", self.name, self.passage);
                let raised = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
                unreachable!("SIGKILL cannot be survived: {raised:?}");
            }
        }
    }

    /// The order that the environment gives, if any.
    pub(super) fn order() -> Option<&'static Order> {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        let read = || {
            let text = std::env::var(VARIABLE).ok()?;
            Some(Order::read(&text).unwrap_or_else(|| {
                panic!("{VARIABLE} is `{text}`; it has to be NAME:N with N from 1")
            }))
        };
        ORDER.get_or_init(read).as_ref()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_order_names_a_place_and_a_passage() {
            let order = Order::read("after-end:3").expect("an order");
            assert_eq!((order.name.as_str(), order.passage), ("after-end", 3));
            for wrong in ["", "after-end", "after-end:", "after-end:0", "after-end:x"] {
                assert!(Order::read(wrong).is_none(), "{wrong}");
            }
        }

        /// Passages before the one that is ordered do nothing (else this test would not live to see its end).
        #[test]
        fn earlier_passages_do_nothing() {
            let order = Order::read("here:3").expect("an order");
            order.pass();
            order.pass();
            assert_eq!(order.passed.load(Ordering::Relaxed), 2);
        }
    }
}
