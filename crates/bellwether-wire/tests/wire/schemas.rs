//! The contracts of `schemas/`: documented, and compatible with everything that was ever released.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bellwether_wire::schema;
use serde_json::Value as Json;

fn schemas() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

/// The released versions of a schema, oldest first.
fn history(name: &str) -> Vec<String> {
    let mut versions = Vec::new();
    while let Ok(text) =
        fs::read_to_string(schemas().join(format!("history/{name}/v{}.avsc", versions.len() + 1)))
    {
        versions.push(text);
    }
    versions
}

#[test]
fn every_file_is_a_contract_and_every_contract_parses() {
    let mut files: Vec<String> = fs::read_dir(schemas())
        .expect("the folder is in the repository")
        .filter_map(|entry| {
            entry.ok()?.file_name().to_str()?.strip_suffix(".avsc").map(str::to_owned)
        })
        .collect();
    let mut contracts: Vec<&str> = schema::ALL.iter().map(|contract| contract.name()).collect();
    files.sort();
    contracts.sort_unstable();
    assert_eq!(files, contracts);
    for contract in schema::ALL {
        let name = contract.schema().name().expect("a record");
        assert_eq!(name.namespace(), Some("io.bellwether.v1"), "{}", contract.name());
    }
}

#[test]
fn everything_is_documented() {
    for contract in schema::ALL {
        let schema: Json = serde_json::from_str(contract.text()).expect("JSON");
        let mut undocumented = Vec::new();
        find_undocumented(&schema, contract.name(), &mut undocumented);
        assert!(undocumented.is_empty(), "without a doc: {undocumented:?}");
    }
}

fn find_undocumented(schema: &Json, path: &str, found: &mut Vec<String>) {
    let documented = |json: &Json| json["doc"].as_str().is_some_and(|doc| doc.len() > 5);
    match schema {
        Json::Array(variants) => {
            variants.iter().for_each(|variant| find_undocumented(variant, path, found))
        }
        Json::Object(_) if schema["type"] == "record" => {
            if !documented(schema) {
                found.push(path.to_owned());
            }
            for field in schema["fields"].as_array().expect("a record has fields") {
                let path =
                    format!("{path}.{}", field["name"].as_str().expect("a field has a name"));
                if !documented(field) {
                    found.push(path.clone());
                }
                find_undocumented(&field["type"], &path, found);
            }
        }
        Json::Object(_) => ["items", "values"]
            .iter()
            .for_each(|part| find_undocumented(&schema[part], path, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[test]
fn a_changed_schema_comes_with_a_new_version_in_the_history() {
    for contract in schema::ALL {
        let name = contract.name();
        let versions = history(name);
        let latest = versions.last().unwrap_or_else(|| panic!("history/{name}/v1.avsc is missing"));
        let latest: Json = serde_json::from_str(latest).expect("JSON");
        let current: Json = serde_json::from_str(contract.text()).expect("JSON");
        assert!(
            without_docs(&latest) == without_docs(&current),
            "schemas/{name}.avsc differs from history/{name}/v{0}.avsc: copy it to v{1}.avsc",
            versions.len(),
            versions.len() + 1
        );
    }
}

fn without_docs(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(without_docs).collect(),
        Json::Object(members) => {
            let members = members.iter().filter(|(name, _)| *name != "doc");
            members.map(|(name, value)| (name.clone(), without_docs(value))).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json.clone(),
    }
}

#[test]
fn every_version_reads_every_other() {
    for contract in schema::ALL {
        let versions = history(contract.name());
        for (index, older) in versions.iter().enumerate() {
            for newer in &versions[index..] {
                if let Err(error) = check_full(older, newer) {
                    panic!("{} v{} and a later one: {error}", contract.name(), index + 1);
                }
            }
            check_full(older, contract.text())
                .expect("the current schema is the latest of the history");
        }
    }
}

/// Full compatibility: by the rules, and by writing with each and reading with the other. (The library's rules alone do not see
/// all of it: a default of the wrong type, for one.)
fn check_full(one: &str, other: &str) -> Result<(), String> {
    let one = Schema::parse_str(one).map_err(|error| error.to_string())?;
    let other = Schema::parse_str(other).map_err(|error| error.to_string())?;
    for (writer, reader) in [(&one, &other), (&other, &one)] {
        match SchemaCompatibility::can_read(writer, reader) {
            Ok(Compatibility::Full) => {}
            Ok(Compatibility::Partial) => return Err("some values cannot be read".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        for filled in [true, false] {
            let datum = GenericDatumWriter::builder(writer)
                .build()
                .and_then(|datum| datum.write_value_to_vec(sample(writer, filled)))
                .map_err(|error| error.to_string())?;
            GenericDatumReader::builder(writer)
                .reader_schema(reader)
                .build()
                .and_then(|reader| reader.read_value(&mut datum.as_slice()))
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// A value of a schema: every nullable set and every list with an item, or none.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a type that is used later needs a sample first"
)]
fn sample(schema: &Schema, filled: bool) -> Value {
    match schema {
        Schema::Record(record) => Value::Record(
            record
                .fields
                .iter()
                .map(|field| (field.name.clone(), sample(&field.schema, filled)))
                .collect(),
        ),
        Schema::Union(union) => {
            let place = if filled { union.variants().len() - 1 } else { 0 };
            let place = u32::try_from(place).expect("a union is small");
            Value::Union(place, Box::new(sample(&union.variants()[place as usize], filled)))
        }
        Schema::Array(array) => {
            Value::Array(filled.then(|| sample(&array.items, filled)).into_iter().collect())
        }
        Schema::Map(map) => {
            let entry = filled.then(|| ("key".to_owned(), sample(&map.types, filled)));
            Value::Map(entry.into_iter().collect::<HashMap<_, _>>())
        }
        Schema::Null => Value::Null,
        Schema::Boolean => Value::Boolean(filled),
        Schema::Int => Value::Int(-1),
        Schema::Long => Value::Long(-1),
        Schema::Double => Value::Double(0.5),
        Schema::String => Value::String("x".to_owned()),
        Schema::Date => Value::Date(20_000),
        Schema::TimestampMillis => Value::TimestampMillis(1),
        other => panic!("our schemas do not use {other:?}; add a sample of it"),
    }
}

/// Released versions are read both ways; each of these edits breaks one of them, and the checker has to say so.
#[test]
fn breaking_changes_are_found() {
    let text = schema::USAGE_EVENT.text();
    let edits = [
        (
            r#""name": "event_id", "type": "string""#,
            r#""name": "event_id", "type": "long""#,
            "a type that does not promote back",
        ),
        (
            r#""name": "event_id", "type": "string""#,
            r#""name": "event", "type": "string""#,
            "a required field renamed",
        ),
        (
            r#""type": ["null", "double"], "default": null"#,
            r#""type": "double""#,
            "a nullable field made required",
        ),
        (
            r#""type": ["null", "double"], "default": null"#,
            r#""type": ["null", "float"], "default": null"#,
            "a narrowed number",
        ),
        (
            r#"{"name": "attributes""#,
            r#"{"name": "added", "type": "string", "doc": "new"}, {"name": "attributes""#,
            "a field without a default",
        ),
        (r#""default": {}"#, r#""default": null"#, "a default of the wrong type"),
    ];
    check_full(text, text).expect("a schema reads itself");
    for (from, to, what) in edits {
        assert!(text.contains(from), "{what}: the schema has changed, adapt this test");
        assert!(check_full(text, &text.replacen(from, to, 1)).is_err(), "not found: {what}");
    }
    let added = r#"{"name": "added", "type": ["null", "string"], "default": null, "doc": "new"}, {"name": "attributes""#;
    check_full(text, &text.replacen(r#"{"name": "attributes""#, added, 1))
        .expect("a nullable field may be added");
}

#[test]
fn one_nested_type_is_the_same_everywhere() {
    let mut seen: HashMap<String, Json> = HashMap::new();
    for contract in schema::ALL {
        let schema: Json = serde_json::from_str(contract.text()).expect("JSON");
        for field in schema["fields"].as_array().expect("a record has fields") {
            let items = &field["type"]["items"];
            if let Some(name) = items["name"].as_str() {
                let first = seen.entry(name.to_owned()).or_insert_with(|| items.clone());
                assert_eq!(first, items, "{name} in {}", contract.name());
            }
        }
    }
}
