//! What partitions tell each other of cohorts, as JSON: an internal topic, written and read by the same version or its neighbours.

use bellwether_core::event::Input;
use bellwether_core::fleet::Message;
use serde::{Deserialize, Serialize};

use crate::decode::{DecodeError, json};
use bellwether_core::reject::{Reason, Reject};

#[derive(Serialize)]
struct Written<'a> {
    source: u32,
    message: &'a Message,
}

#[derive(Deserialize)]
struct Read {
    source: u32,
    message: Message,
}

/// A message as the value of a record. `source` is the partition that says it.
///
/// # Panics
/// Never: messages hold texts, numbers and lists of them.
#[must_use]
pub fn encode(source: u32, message: &Message) -> Vec<u8> {
    serde_json::to_vec(&Written { source, message }).expect("plain values, which JSON can say")
}

/// Reads a message back.
///
/// # Errors
/// A reject where it is none.
pub fn decode(payload: Option<&[u8]>) -> Result<Input, DecodeError> {
    let payload = payload.ok_or_else(|| Reject::new(Reason::Empty, "the record has no payload"))?;
    let Read { source, message } = json(payload)?;
    Ok(Input::Cohort { source, message: Box::new(message) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_core::account::SignalKey;
    use bellwether_core::calendar::{Entry, Scope, Span};
    use bellwether_core::cohort::DayTotal;
    use bellwether_core::fleet::{Part, PartRecord, Period, Sums, TotalRecord};
    use bellwether_core::id::EventId;
    use bellwether_core::promotion::Promotion;
    use bellwether_core::time::{Day, Millis};

    #[test]
    fn messages_come_back_as_they_were() {
        let sums = Sums { weight: 0.1 + 0.2, relative: 1e300, compared: 0.0, usual: 1.0 / 3.0 };
        let signals = vec![(SignalKey(7), sums)];
        let part = Part {
            at: Millis(5),
            accounts: 3,
            score: (-1, 2),
            held_back: 4,
            signals: signals.clone(),
        };
        let day = Some((Day(3), DayTotal { accounts: 9, signals }));
        let span = Span { from: Day(-3), to: Day(9), kind: "incident".to_owned(), note: None };
        let entry = Entry { scope: Scope::Region("DE".to_owned()), span };
        let model = Some("{\"card\": [1.5]}".to_owned());
        let promotion = Promotion { from: Millis(7), model, by: None, began: None };
        let cohort = "a \"cohort\"\n".to_owned();
        for message in [
            Message::Part(PartRecord { cohort: cohort.clone(), period: Period::Hour(-3), part }),
            Message::Total(TotalRecord { cohort, hold: Some(Millis(9)), day }),
            Message::Calendar(EventId::new("e").expect("an id"), None),
            Message::Calendar(EventId::new("e").expect("an id"), Some(entry)),
            Message::Promotion(EventId::new("m").expect("an id"), None),
            Message::Promotion(EventId::new("m").expect("an id"), Some(promotion.clone())),
            Message::Challenger(EventId::new("n").expect("an id"), promotion),
        ] {
            let read = decode(Some(&encode(6, &message))).expect("what was written");
            assert_eq!(read, Input::Cohort { source: 6, message: Box::new(message) });
        }
        for bytes in [&b""[..], b"[]", b"{}", b"{\"source\":1,\"message\":{\"part\":{}}}", b"\0\0"]
        {
            assert!(matches!(decode(Some(bytes)), Err(DecodeError::Reject(_))), "{bytes:?}");
        }
        assert!(matches!(decode(None), Err(DecodeError::Reject(_))));
    }
}
