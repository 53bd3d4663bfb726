//! How far back was looked for what had been published.

use bellwether_core::time::Millis;
use serde_json::{Map, Value, json};

/// How far back records of a topic were looked through. Times are those at which records were published, by the clock of who published
/// them, and never the times of what they tell of: those of a history that was read in today lie years back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookedBack {
    /// Through all that was ever published.
    #[default]
    Whole,
    /// Through all that is kept, which was published since this time; what was published before is gone.
    Kept(Millis),
    /// Through what was published since this time; what was published before may still be kept.
    Newest(Millis),
}

impl LookedBack {
    /// What reading a partition from an offset on comes to: by the first record that came, its offset and when it was published, and by where
    /// the partition ended.
    #[must_use]
    pub fn by_reading(
        from: i64,
        first: Option<(i64, Millis)>,
        end: i64,
        now: Millis,
    ) -> LookedBack {
        match first {
            Some((0, _)) => LookedBack::Whole,
            // The one before it may be kept.
            Some((offset, published_at)) if offset == from => LookedBack::Newest(published_at),
            Some((_, published_at)) => LookedBack::Kept(published_at),
            None if end == 0 => LookedBack::Whole,
            // All of it was kept for its time and is gone; offsets go on.
            None => LookedBack::Kept(now),
        }
    }

    /// Since when all that was published was looked through; none: all that ever was.
    #[must_use]
    pub fn to(self) -> Option<Millis> {
        match self {
            LookedBack::Whole => None,
            LookedBack::Kept(since) | LookedBack::Newest(since) => Some(since),
        }
    }

    /// How far back was looked in two partitions together.
    #[must_use]
    pub fn and(self, other: LookedBack) -> LookedBack {
        let Some(since) = self.to().max(other.to()) else { return LookedBack::Whole };
        match (self, other) {
            (LookedBack::Newest(_), _) | (_, LookedBack::Newest(_)) => LookedBack::Newest(since),
            (LookedBack::Kept(_) | LookedBack::Whole, LookedBack::Kept(_) | LookedBack::Whole) => {
                LookedBack::Kept(since)
            }
        }
    }

    /// What answers say of what was published before; none: nothing was.
    #[must_use]
    pub fn older_records(self) -> Option<&'static str> {
        match self {
            LookedBack::Whole => None,
            LookedBack::Kept(_) => Some("gone"),
            LookedBack::Newest(_) => Some("unread"),
        }
    }

    /// The members of an answer that say so.
    #[must_use]
    pub fn members(self) -> Map<String, Value> {
        Map::from_iter([
            ("looked_back_to".to_owned(), json!(self.to().map(Millis::iso))),
            ("older_records".to_owned(), json!(self.older_records())),
        ])
    }

    /// The same from an answer; none where it does not say.
    #[must_use]
    pub fn of(answer: &Value) -> Option<LookedBack> {
        let since = answer.get("looked_back_to")?;
        let older = answer.get("older_records")?;
        if older.is_null() {
            return Some(LookedBack::Whole);
        }
        let since = since.as_str().and_then(Millis::parse)?;
        match older.as_str()? {
            "gone" => Some(LookedBack::Kept(since)),
            "unread" => Some(LookedBack::Newest(since)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_partition_begins_says_whether_older_records_are_gone_or_unread() {
        use LookedBack::{Kept, Newest, Whole};
        let [at, now] = [Millis(1_000), Millis(2_000)];
        for (from, first, end, back) in [
            (0, Some((0, at)), 9, Whole),
            (0, None, 0, Whole),
            (0, Some((4, at)), 9, Kept(at)),
            (0, None, 9, Kept(now)),
            (4, Some((4, at)), 9, Newest(at)),
            (4, Some((6, at)), 9, Kept(at)),
            (4, None, 9, Kept(now)),
        ] {
            assert_eq!(LookedBack::by_reading(from, first, end, now), back, "{from} {first:?}");
        }
    }

    #[test]
    fn partitions_together_go_back_as_far_as_the_one_that_goes_back_least() {
        use LookedBack::{Kept, Newest, Whole};
        let [early, late] = [Millis(1_000), Millis(2_000)];
        for (one, other, both) in [
            (Whole, Whole, Whole),
            (Whole, Kept(early), Kept(early)),
            (Kept(late), Kept(early), Kept(late)),
            (Kept(late), Newest(early), Newest(late)),
            (Newest(early), Newest(late), Newest(late)),
        ] {
            assert_eq!((one.and(other), other.and(one)), (both, both));
        }
    }

    #[test]
    fn what_answers_say_is_read_back_as_it_was() {
        let at = Millis(1_772_323_200_002);
        for back in [LookedBack::Whole, LookedBack::Kept(at), LookedBack::Newest(at)] {
            assert_eq!(LookedBack::of(&Value::Object(back.members())), Some(back));
        }
        // Of a server of another version, which says less, or something else.
        for other in [
            json!({}),
            json!({"looked_back_to": "2026-03-01T00:00:00Z"}),
            json!({"looked_back_to": null, "older_records": "gone"}),
            json!({"looked_back_to": "2026-03-01T00:00:00Z", "older_records": "elsewhere"}),
        ] {
            assert_eq!(LookedBack::of(&other), None, "{other}");
        }
    }
}
