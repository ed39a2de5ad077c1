//! Two shapes that several keys share: a name that stands for a map, and a scalar or a map.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, MapDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

/// A map with a `name`, or the name alone where its other keys have defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMap<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for NameOrMap<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a map with `name`")
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<T, E> {
                T::deserialize(MapDeserializer::new(std::iter::once(("name", v))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(NameOrMap(PhantomData)).map(Named)
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrName", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string", "description": "short for `{name: ..}`" }, map], "x-shorthand": "name" })
    }
}

/// A scalar of one kind, or a map.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalarOr<S, M> {
    /// The short form.
    Scalar(S),
    /// The long form.
    Map(M),
}

impl<'de, S: DeserializeOwned, M: DeserializeOwned> Deserialize<'de> for ScalarOr<S, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<S, M>(PhantomData<(S, M)>);
        impl<'de, S: DeserializeOwned, M: DeserializeOwned> Visitor<'de> for Either<S, M> {
            type Value = ScalarOr<S, M>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar or a map")
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                S::deserialize(StrDeserializer::new(v)).map(ScalarOr::Scalar)
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
                S::deserialize(v.into_deserializer()).map(ScalarOr::Scalar)
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
                S::deserialize(v.into_deserializer()).map(ScalarOr::Scalar)
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
                S::deserialize(v.into_deserializer()).map(ScalarOr::Scalar)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::deserialize(MapAccessDeserializer::new(map)).map(ScalarOr::Map)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<S: JsonSchema, M: JsonSchema> JsonSchema for ScalarOr<S, M> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), M::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (scalar, map) = (generator.subschema_for::<S>(), generator.subschema_for::<M>());
        json_schema!({ "anyOf": [scalar, map] })
    }
}
