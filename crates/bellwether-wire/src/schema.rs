//! The contracts: the Avro schemas of `schemas/`, compiled in.

use std::sync::OnceLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;

/// One schema of `schemas/`.
pub struct Contract {
    name: &'static str,
    text: &'static str,
    schema: OnceLock<Schema>,
    reader: OnceLock<GenericDatumReader<'static>>,
    writer: OnceLock<GenericDatumWriter<'static>>,
}

impl Contract {
    const fn new(name: &'static str, text: &'static str) -> Contract {
        Contract {
            name,
            text,
            schema: OnceLock::new(),
            reader: OnceLock::new(),
            writer: OnceLock::new(),
        }
    }

    /// The schema's file name without its ending, e.g. `usage-event`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The schema as it stands in `schemas/`.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The schema, parsed.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| {
            Schema::parse_str(self.text).expect("the test of the schemas parses every one of them")
        })
    }

    /// Reads datums that were written with exactly this schema.
    pub(crate) fn reader(&'static self) -> &'static GenericDatumReader<'static> {
        self.reader.get_or_init(|| {
            GenericDatumReader::builder(self.schema())
                .human_readable(false)
                .build()
                .expect("a parsed schema of ours refers to no other")
        })
    }

    /// Writes datums of this schema.
    pub(crate) fn writer(&'static self) -> &'static GenericDatumWriter<'static> {
        self.writer.get_or_init(|| {
            GenericDatumWriter::builder(self.schema())
                .human_readable(false)
                .build()
                .expect("a parsed schema of ours refers to no other")
        })
    }
}

impl std::fmt::Debug for Contract {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Contract").field(&self.name).finish()
    }
}

macro_rules! contracts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub static $name: Contract =
            Contract::new($file, include_str!(concat!("../../../schemas/", $file, ".avsc")));)*

        /// Every contract.
        pub static ALL: &[&Contract] = &[$(&$name),*];
    };
}

contracts! {
    /// Input: an event.
    USAGE_EVENT = "usage-event";
    /// Input: a profile.
    ACCOUNT_PROFILE = "account-profile";
    /// Input: an outcome, or feedback.
    OUTCOME = "outcome";
    /// Input: a calendar entry.
    CALENDAR_ENTRY = "calendar-entry";
    /// Input: the promotion of a model.
    MODEL_PROMOTION = "model-promotion";
    /// Output: a movement of a score.
    SCORE_CHANGED = "score-changed";
    /// Output: the latest health record.
    SCORE_CURRENT = "score-current";
    /// Output: two scores side by side.
    SHADOW_SCORE = "shadow-score";
    /// Output: an example to learn from.
    LEARNING_EXAMPLE = "learning-example";
    /// Output: an event of an alert.
    ALERT = "alert";
    /// The view of a dead letter.
    DEAD_LETTER = "dead-letter";
}
