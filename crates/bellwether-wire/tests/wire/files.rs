//! Files as replay reads them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use apache_avro::Writer;
use apache_avro::types::Record;
use bellwether_core::event::OutcomeKind;
use bellwether_core::reject::Reason;
use bellwether_core::time::Millis;
use bellwether_wire::files::{FileError, OpenError, open, open_outcomes, open_profiles};
use bellwether_wire::schema;
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

const CSV: &str = "event_id,account_id,user_id,cohort,signal,value,occurred_at,object\n\
    e1,acme,ann,smb,commit,1,2011-01-01T00:08:43Z,neutron\n\
    e2,acme,,smb,commit,,1293840523000,\"nova, and \"\"more\"\"\"\r\n";

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("the folder is ours");
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

#[test]
fn csv_is_read_plain_and_gzipped() {
    let folder = folder();
    let plain = write(&folder, "events.csv", CSV.as_bytes());
    let zipped = write(&folder, "events.csv.gz", &gzip(CSV.as_bytes()));
    let events: Vec<_> =
        open(&plain).expect("a good file").map(|event| event.expect("a good line")).collect();
    assert_eq!((events[0].id.as_str(), events[0].kind.as_str()), ("e1", "commit"));
    assert_eq!(events[0].member.as_ref().map(|member| member.as_str()), Some("ann"));
    assert_eq!((events[0].segment.as_deref(), events[0].value), (Some("smb"), Some(1.0)));
    assert_eq!(events[0].occurred_at, Millis(1_293_840_523_000));
    assert_eq!((events[1].member.as_ref(), events[1].value), (None, None));
    assert_eq!(events[1].feature.as_deref(), Some("nova, and \"more\""));
    assert_eq!(events[1].occurred_at, events[0].occurred_at);
    let again: Vec<_> =
        open(&zipped).expect("a good file").map(|event| event.expect("a good line")).collect();
    assert_eq!(again, events);
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let folder = folder();
    let text = "\u{feff}occurred_at, ignored ,type,member_role,account_id,event_id\n2026-03-01,x,login,admin,acme,1\n";
    let event = open(&write(&folder, "a.csv", text.as_bytes()))
        .expect("good")
        .next()
        .expect("one")
        .expect("good");
    assert_eq!((event.kind.as_str(), event.role.as_deref()), ("login", Some("admin")));
}

#[test]
fn a_missing_column_is_named_with_what_was_found() {
    let folder = folder();
    let error = open(&write(&folder, "a.csv", b"event_id,account,occurred_at\n1,a,0\n"))
        .expect_err("no account_id");
    assert!(matches!(error, OpenError::Column { .. }));
    let text = error.to_string();
    assert!(
        text.contains("no column account_id") && text.contains("event_id, account, occurred_at"),
        "{text}"
    );
    let error =
        open(&write(&folder, "b.csv", b"event_id,account_id,occurred_at\n")).expect_err("no type");
    assert!(error.to_string().contains("type or signal"), "{error}");
    assert!(open(&write(&folder, "c.csv", b"")).is_err());
}

fn reasons<T>(items: impl Iterator<Item = Result<T, FileError>>) -> Vec<(u64, Option<Reason>)> {
    let mut good = 0;
    items
        .map(|item| match item {
            Ok(_) => {
                good += 1;
                (good, None)
            }
            Err(error) => (error.line, Some(error.reject.reason)),
        })
        .collect()
}

#[test]
fn a_bad_line_has_its_number_and_reading_goes_on() {
    let folder = folder();
    let long = "x".repeat(2_000_000);
    let csv = format!(
        "event_id,account_id,type,occurred_at,value\n1,a,t,0,\n\n2,a,t,soon,1\n3,a,t,0,NaN\n4,a,t,0,1e999\n5,a,t,0,x\n\
         6,a,t\n7,\"a,t,0,1\n8,a,{long},0,1\n9,,t,0,1\n10,a,t,0,1\n11,a,t,-5,1"
    );
    let expected = [
        (1, None),
        (4, Some(Reason::InvalidField)),
        (5, Some(Reason::NonFinite)),
        (6, Some(Reason::NonFinite)),
        (7, Some(Reason::InvalidField)),
        (8, Some(Reason::Malformed)),
        (9, Some(Reason::Malformed)),
        (10, Some(Reason::TooLarge)),
        (11, Some(Reason::InvalidId)),
        (2, None),
        (13, Some(Reason::OutOfRange)),
    ];
    assert_eq!(
        reasons(open(&write(&folder, "a.csv", csv.as_bytes())).expect("a header")),
        expected
    );

    let good = r#"{"event_id":"1","account_id":"a","signal":"t","occurred_at":0}"#;
    let ndjson = format!("{good}\n\n{{\"event_id\"\n  {good}  \r\n[]\n{good}");
    let expected = [
        (1, None),
        (3, Some(Reason::Malformed)),
        (2, None),
        (5, Some(Reason::Malformed)),
        (3, None),
    ];
    for name in ["a.ndjson", "a.jsonl", "a.json"] {
        assert_eq!(
            reasons(open(&write(&folder, name, ndjson.as_bytes())).expect("good")),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_broken_gzip_stream_ends_with_an_error() {
    let folder = folder();
    let mut bytes = gzip(CSV.repeat(1000).as_bytes());
    bytes.truncate(bytes.len() / 2);
    let items = reasons(open(&write(&folder, "a.csv.gz", &bytes)).expect("the header is there"));
    assert_eq!(items.last().map(|(_, reason)| *reason), Some(Some(Reason::Malformed)));
}

#[test]
fn avro_container_files_are_read() {
    let folder = folder();
    let schema = schema::USAGE_EVENT.schema();
    let mut writer = Writer::new(schema, Vec::new()).expect("a schema");
    for number in 0..3 {
        let mut record = Record::new(schema).expect("a record schema");
        record.put("event_id", format!("e{number}"));
        record.put("account_id", if number == 1 { "" } else { "acme" });
        record.put("type", "login");
        record.put("occurred_at", apache_avro::types::Value::TimestampMillis(number));
        for field in ["member_id", "member_role", "feature", "segment", "text"] {
            record.put(field, None::<String>);
        }
        record.put("value", Some(2.5));
        record.put("attributes", apache_avro::types::Value::Map(std::collections::HashMap::new()));
        writer.append_value(record).expect("it fits the schema");
    }
    let mut bytes = writer.into_inner().expect("memory takes it");
    let path = write(&folder, "events.avro", &bytes);
    let items: Vec<_> = open(&path).expect("a container").collect();
    assert_eq!(items[0].as_ref().expect("good").value, Some(2.5));
    let error = items[1].as_ref().expect_err("no account");
    assert_eq!((error.line, error.reject.reason, items.len()), (2, Reason::InvalidId, 3));

    let length = bytes.len();
    bytes.truncate(length - 20);
    let items = reasons(open(&write(&folder, "short.avro", &bytes)).expect("the header is whole"));
    assert_eq!(items.last().map(|(_, reason)| *reason), Some(Some(Reason::Malformed)));
    assert!(open(&write(&folder, "none.avro", b"Obj")).is_err());
}

#[test]
fn profiles_and_outcomes_have_files_too() {
    let folder = folder();
    let profiles = b"{\"account_id\":\"a\",\"as_of\":0}\n{\"account_id\":\"b\"}\n";
    let items = reasons(open_profiles(&write(&folder, "p.ndjson", profiles)).expect("good"));
    assert_eq!(items, [(1, None), (2, Some(Reason::InvalidField))]);

    let outcomes = b"account_id,kind,cohort,eligible_from,churned_at,observed_until\n\
        a,silence,x,2013-01-26T00:00:00Z,2013-02-25T00:00:00Z,2014-02-01T00:00:00Z\n\
        b,silence,x,2013-01-26T00:00:00Z,,2014-02-01T00:00:00Z\n";
    let outcomes: Vec<_> =
        open_outcomes(&write(&folder, "o.csv", outcomes)).expect("good").collect();
    assert_eq!(outcomes.len(), 1, "who stayed is no outcome");
    let churn = outcomes[0].as_ref().expect("good");
    assert_eq!((churn.account.as_str(), churn.kind), ("a", OutcomeKind::Churned));
    assert_eq!(
        (churn.occurred_at.iso().as_str(), churn.note.as_deref()),
        ("2013-02-25T00:00:00.000Z", Some("silence"))
    );

    let json = b"{\"outcome_id\":\"1\",\"account_id\":\"a\",\"occurred_at\":0,\"kind\":\"saved\"}";
    assert_eq!(
        reasons(open_outcomes(&write(&folder, "o.jsonl", json)).expect("good")),
        [(1, None)]
    );
}

#[test]
fn unknown_endings_and_missing_files_say_what_is_allowed() {
    let error = open(Path::new("events.parquet")).expect_err("no such format");
    assert!(error.to_string().contains(".ndjson"), "{error}");
    assert!(matches!(open(Path::new("nowhere/events.csv")), Err(OpenError::Io { .. })));
    assert!(open_profiles(Path::new("profiles.csv")).is_err());
}

#[test]
fn progress_reaches_the_end_with_the_file() {
    let folder = folder();
    let path = write(&folder, "a.csv.gz", &gzip(CSV.as_bytes()));
    let events = open(&path).expect("good");
    let progress = events.progress();
    assert_eq!(events.count(), 2);
    assert_eq!(progress.bytes_read(), progress.bytes_total());
}
