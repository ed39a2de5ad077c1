//! Encoders by name: one file a family, with its keys, its known sizes, and what is checked of it.
//!
//! Owns the list of image encoders. Input: `image_encoder:` as it is stated. Output: its config, or problems. Invariant: only a
//! family's own file knows its keys; the types of the experiment file, the resolver and the schema take them from the list here.
//! Must not know: trees and places.

mod convnext;
mod keys;
mod mixer;
mod resnet;
mod stages;
mod swin;
mod text;
mod transformer;
mod vit;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde_json::{Map, Value};

pub use text::TextEncoderSpec;
pub(super) use text::text_encoder;

use super::diagnostic::{Code, did_you_mean, quoted_list};
use super::problem::Problem;
use crate::run::ImageEncoderConfig;
use keys::Keys;

/// The families of image encoders. A new one is its file, its line here, and its variant of [`ImageEncoderConfig`].
const FAMILIES: [Family; 5] = [
    Family::of::<vit::VitSpec>(),
    Family::of::<resnet::ResNetSpec>(),
    Family::of::<convnext::ConvNextSpec>(),
    Family::of::<swin::SwinSpec>(),
    Family::of::<mixer::MixerSpec>(),
];

/// Key path of the image encoder.
const PATH: &str = "model.image_encoder";

/// A family of image encoders: the keys that may stand beside its name.
trait FamilySpec: DeserializeOwned + JsonSchema {
    /// The word that its names begin with: `vit` of `vit`, `vit-ti/8` and `vit/8`.
    const NAME: &'static str;
    /// Whether tokens can be left out of an image.
    const DROPS_TOKENS: bool;

    /// Known sizes, as they may be written; with an example of a patch size where one must be stated.
    fn names() -> Vec<String>;

    /// The config, or `None` where problems were found.
    fn resolve(self, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig>;
}

/// A [`FamilySpec`] as an entry of the list.
struct Family {
    name: &'static str,
    drops_tokens: bool,
    names: fn() -> Vec<String>,
    schema: fn(&mut SchemaGenerator) -> Schema,
    resolve: fn(Value, usize, &mut Keys<'_>) -> Option<ImageEncoderConfig>,
}

impl Family {
    const fn of<F: FamilySpec>() -> Self {
        Self { name: F::NAME, drops_tokens: F::DROPS_TOKENS, names: F::names, schema: F::json_schema, resolve: resolve::<F> }
    }
}

fn resolve<F: FamilySpec>(stated: Value, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig> {
    match serde_json::from_value::<F>(stated) {
        Ok(spec) => spec.resolve(image_size, keys),
        Err(error) => {
            keys.push(Problem::new(Code::Type, PATH, format!("`{PATH}`: {error}")));
            None
        }
    }
}

/// The word of a name that tells its family.
fn family_word(name: &str) -> &str {
    name.split(['-', '/']).next().unwrap_or(name)
}

/// An image encoder as it is stated: a name, and keys of its family that go before those of a known size.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageEncoderSpec {
    name: String,
    /// All keys, the name included.
    stated: Value,
}

impl<'de> Deserialize<'de> for ImageEncoderSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stated = Map::<String, Value>::deserialize(deserializer)?;
        let name = stated.get("name").and_then(Value::as_str).ok_or_else(|| D::Error::missing_field("name"))?.to_owned();
        Ok(Self { name, stated: Value::Object(stated) })
    }
}

impl JsonSchema for ImageEncoderSpec {
    fn schema_name() -> Cow<'static, str> {
        "ImageEncoderSpec".into()
    }

    /// One map a family. `x-family` at its `name` tells them apart: the word that names of the family begin with.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut families = Vec::new();
        for Family { name, names, schema, .. } in &FAMILIES {
            let mut schema = schema(generator);
            schema.insert("x-expected".into(), "an encoder such as `vit-ti/8`, or a map with its shape".into());
            if let Some(Value::Object(tag)) = schema.pointer_mut("/properties/name") {
                tag.insert("x-family".into(), (*name).into());
                tag.insert("pattern".into(), format!("^{name}([-/]|$)").into());
                tag.insert("examples".into(), names().into());
            }
            families.push(Value::from(schema));
        }
        schemars::json_schema!({ "anyOf": families })
    }
}

/// Names of the known encoders, image encoders first: `vit-ti` (which takes a patch size), `text-s`.
#[must_use]
pub fn encoder_names() -> Vec<String> {
    let image = FAMILIES.iter().flat_map(|family| (family.names)());
    let without_patch = image.map(|name| name.split('/').next().unwrap_or_default().to_owned());
    without_patch.chain(text::names()).collect()
}

/// Names of the families of image encoders that can leave out tokens.
pub(super) fn that_drop_tokens() -> Vec<&'static str> {
    FAMILIES.iter().filter(|family| family.drops_tokens).map(|family| family.name).collect()
}

/// The config of an image encoder for images of this side, pixels; `None` where problems were found.
pub(super) fn image_encoder(spec: ImageEncoderSpec, image_size: usize, problems: &mut Vec<Problem>) -> Option<ImageEncoderConfig> {
    let ImageEncoderSpec { name, stated } = spec;
    let Some(family) = FAMILIES.iter().find(|family| family.name == family_word(&name)) else {
        let families: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        let message = format!("`{PATH}`: unknown encoder `{name}`, expected a name that begins with {}", quoted_list(&families));
        let names: Vec<String> = FAMILIES.iter().flat_map(|family| (family.names)()).collect();
        let mut problem = Problem::new(Code::Model, PATH, message);
        problem.hint = did_you_mean(&name, names.iter().map(String::as_str));
        problems.push(problem);
        return None;
    };
    (family.resolve)(stated, image_size, &mut Keys { path: PATH, problems })
}
