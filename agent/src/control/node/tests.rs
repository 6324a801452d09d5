//! Tests of `node`.

use super::*;

fn documents(text: &str) -> Vec<Node> {
    let mut errors = Vec::new();
    let documents = read_documents(Path::new("in.yaml"), text.as_bytes(), &mut errors);
    assert_eq!(errors, []);
    documents
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    for (text, expected) in [
        ("off", Value::Text("off".into())),
        ("yes", Value::Text("yes".into())),
        ("true", Value::Bool(true)),
        ("'true'", Value::Text("true".into())),
        ("80", Value::Integer(80)),
        ("'80'", Value::Text("80".into())),
        ("1.5", Value::Float(1.5)),
        ("10.0.0.1", Value::Text("10.0.0.1".into())),
        ("\"fd00::1\"", Value::Text("fd00::1".into())),
        ("2024-01-01T00:00:00Z", Value::Text("2024-01-01T00:00:00Z".into())),
    ] {
        assert_eq!(documents(text)[0].value, expected, "{text}");
    }
}

#[test]
fn keys_and_values_know_their_places() {
    let documents = documents("---\na:\n  ü: [1,\n   b]\n");
    let Value::Map(entries) = &documents[0].value else { panic!("expected a mapping") };
    assert_eq!(entries[0].place, Place { line: 2, column: 1 });
    let Value::Map(inner) = &entries[0].node.value else { panic!("expected a mapping") };
    assert_eq!(inner[0].place, Place { line: 3, column: 3 });
    let Value::List(items) = &inner[0].node.value else { panic!("expected a list") };
    assert_eq!(items[0].place, Place { line: 3, column: 7 });
    assert_eq!(items[1].place, Place { line: 4, column: 4 });
}

#[test]
fn an_alias_stands_for_its_anchor() {
    let documents = documents("a: &x {k: v}\nb: *x\n");
    let Value::Map(entries) = &documents[0].value else { panic!("expected a mapping") };
    assert_eq!(entries[1].node.place.line, 2);
    let (Value::Map(first), Value::Map(second)) = (&entries[0].node.value, &entries[1].node.value) else {
        panic!("expected two mappings");
    };
    assert_eq!((&first[0].key, &first[0].node.value), (&second[0].key, &second[0].node.value));
}

#[test]
fn documents_before_one_that_cannot_be_parsed_are_kept() {
    let mut errors = Vec::new();
    let documents = read_documents(Path::new("in.yaml"), b"a: 1\n---\nb: [\n", &mut errors);
    assert_eq!((documents.len(), errors.len()), (1, 1));
}
