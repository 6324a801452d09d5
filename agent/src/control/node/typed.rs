//! Reads typed objects of the Kubernetes API out of a tree, so that an error knows its place and field.
//!
//! A serde deserializer over `Node`. Strict as the API server is: a number is no text.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor, value,
};
use serde::forward_to_deserialize_any;

use super::{Cursor, Entry, Node, Place, Value};
use crate::control::finding::Finding;

impl Cursor<'_> {
    /// Reads the value as a typed object.
    ///
    /// # Errors
    /// The first field that has not the type that the object demands.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Finding> {
        T::deserialize(Typed { node: self.node }).map_err(|error| {
            let mut here = self.clone();
            for step in error.steps.iter().rev() {
                here = match step {
                    Step::Field(key) => here.below(key, error.place),
                    Step::Item(index) => here.item_below(*index, error.place),
                };
            }
            let finding = here.finding(error.message);
            Finding { hint: error.hint, ..finding }
        })
    }
}

/// An error on its way up. It gathers the path to its place while it passes the values around it, so that reading what
/// is right costs no path.
#[derive(Debug)]
struct TypeError {
    message: String,
    hint: Option<String>,
    place: Option<Place>,
    /// The path, innermost first.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Field(String),
    Item(usize),
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), hint: None, place: None, steps: Vec::new() }
    }
}

impl TypeError {
    /// Notes that the error happened below this field or item; the innermost one gives it its place.
    fn below(mut self, step: Step, place: Place) -> Self {
        self.place.get_or_insert(place);
        self.steps.push(step);
        self
    }
}

/// The deserializer.
#[derive(Clone, Copy)]
struct Typed<'a> {
    node: &'a Node,
}

impl<'a> Typed<'a> {
    /// Reads a text, and tells how to write one where something else stands.
    fn text(self) -> Result<&'a str, TypeError> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            other => {
                let error: TypeError =
                    de::Error::custom(format!("expected a text, found {}", other.describe()));
                let scalar = matches!(other, Value::Bool(_) | Value::Integer(_) | Value::Float(_));
                Err(TypeError { hint: scalar.then(|| "put it in quotes".to_owned()), ..error })
            }
        }
    }
}

impl<'a> Deserializer<'a> for Typed<'a> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items { rest: items.iter(), index: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_enum(UnitVariant(self.text()?))
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <W: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// An enum written as the name of a variant, the only form that the API uses.
struct UnitVariant<'a>(&'a str);

impl<'a> EnumAccess<'a> for UnitVariant<'a> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<(S::Value, Self), TypeError> {
        let name = value::BorrowedStrDeserializer::new(self.0);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'a> VariantAccess<'a> for UnitVariant<'a> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'a>>(self, _: S) -> Result<S::Value, TypeError> {
        Err(de::Error::custom("expected a mapping, found a text"))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, _: V) -> Result<V::Value, TypeError> {
        Err(de::Error::custom("expected a list, found a text"))
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, TypeError> {
        Err(de::Error::custom("expected a mapping, found a text"))
    }
}

/// The items of a list.
struct Items<'a> {
    rest: std::slice::Iter<'a, Node>,
    index: usize,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = TypeError;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let item = seed.deserialize(Typed { node });
        item.map(Some).map_err(|error| error.below(Step::Item(index), node.place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a mapping.
struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = TypeError;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key = value::BorrowedStrDeserializer::<TypeError>::new(&entry.key);
        let read = seed.deserialize(key);
        read.map(Some).map_err(|error| error.below(Step::Field(entry.key.clone()), entry.place))
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, TypeError> {
        let entry =
            self.current.ok_or_else(|| -> TypeError { de::Error::custom("a value without a key") })?;
        let read = seed.deserialize(Typed { node: &entry.node });
        read.map_err(|error| error.below(Step::Field(entry.key.clone()), entry.place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
