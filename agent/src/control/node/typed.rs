//! Reads typed objects of the Kubernetes API out of a tree, so that an error knows its place and field.
//!
//! A serde deserializer over `Cursor`. Strict as the API server is: a number is no text.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor, value,
};
use serde::forward_to_deserialize_any;

use super::{Cursor, Entry, Node, Value};
use crate::control::finding::Finding;

impl Cursor<'_> {
    /// Reads the value as a typed object.
    ///
    /// # Errors
    /// The first field that has not the type that the object demands.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Finding> {
        T::deserialize(Typed(self.clone())).map_err(|error| match error {
            TypeError::Placed(finding) => *finding,
            TypeError::Bare(message) => self.finding(message),
        })
    }
}

/// An error on its way up; it gets its place at the innermost value that it passes.
#[derive(Debug)]
enum TypeError {
    Bare(String),
    Placed(Box<Finding>),
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(message) => f.write_str(message),
            Self::Placed(finding) => fmt::Display::fmt(finding, f),
        }
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Bare(message.to_string())
    }
}

impl TypeError {
    /// Gives the error a place, unless it has one.
    fn at(self, cursor: &Cursor<'_>) -> Self {
        match self {
            Self::Bare(message) => Self::Placed(Box::new(cursor.finding(message))),
            placed => placed,
        }
    }
}

/// The deserializer.
struct Typed<'a>(Cursor<'a>);

impl<'a> Typed<'a> {
    /// Reads a text, and tells how to write one where something else stands.
    fn text(&self) -> Result<&'a str, TypeError> {
        match &self.0.node.value {
            Value::Text(text) => Ok(text),
            other => {
                let finding = self.0.finding(format!("expected a text, found {}", other.describe()));
                let finding = match other {
                    Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                        finding.with_hint("put it in quotes")
                    }
                    _ => finding,
                };
                Err(TypeError::Placed(Box::new(finding)))
            }
        }
    }
}

impl<'a> Deserializer<'a> for Typed<'a> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let cursor = self.0;
        let result = match &cursor.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => {
                visitor.visit_seq(Items { cursor: cursor.clone(), rest: items.iter(), index: 0 })
            }
            Value::Map(entries) => {
                visitor.visit_map(Entries { cursor: cursor.clone(), rest: entries.iter(), current: None })
            }
        };
        result.map_err(|error| error.at(&cursor))
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let text = self.text()?;
        visitor.visit_borrowed_str(text).map_err(|error: TypeError| error.at(&self.0))
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
        let name = self.text()?;
        visitor.visit_enum(UnitVariant(name)).map_err(|error: TypeError| error.at(&self.0))
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
    cursor: Cursor<'a>,
    rest: std::slice::Iter<'a, Node>,
    index: usize,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = TypeError;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let item = self.cursor.item(self.index, node);
        self.index += 1;
        seed.deserialize(Typed(item)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a mapping.
struct Entries<'a> {
    cursor: Cursor<'a>,
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = TypeError;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key = value::BorrowedStrDeserializer::<TypeError>::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|error| error.at(&self.cursor.enter(entry)))
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, TypeError> {
        let entry = self.current.ok_or_else(|| TypeError::Bare("a value without a key".to_owned()))?;
        let cursor = self.cursor.enter(entry);
        seed.deserialize(Typed(cursor.clone())).map_err(|error| error.at(&cursor))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
