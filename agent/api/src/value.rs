//! The words that stand in policies, each with the pattern that the API server holds it against.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The name of an object.
const NAME: &str = "[a-z0-9]([a-z0-9.-]*[a-z0-9])?";
/// A port from 1 to 65535.
const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// Defines a text of its own, and its schema.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

word!(
    /// A namespace.
    Name,
    json_schema!({"type": "string", "maxLength": 253, "pattern": format!("^{NAME}$")})
);
word!(
    /// A service account, as NAME or NAMESPACE/NAME.
    ServiceAccount,
    json_schema!({"type": "string", "maxLength": 507, "pattern": format!("^({NAME}/)?{NAME}$")})
);
word!(
    /// A SPIFFE identity, or a text with one `*` that stands for any characters.
    Identity,
    json_schema!({
        "type": "string", "maxLength": 1024,
        "pattern": "^(spiffe://[^*/]+/ns/[^*/]+/sa/[^*/]+|(spiffe://[^*]*)?[*][^*]*)$",
    })
);
word!(
    /// A network, as ADDRESS/LENGTH.
    Cidr,
    json_schema!({"type": "string", "maxLength": 64, "format": "cidr"})
);
word!(
    /// The value of a label.
    Label,
    json_schema!({"type": "string", "maxLength": 63})
);

impl ServiceAccount {
    /// The pattern where no namespace can be meant but one that is written.
    pub(crate) fn pattern_with_namespace() -> String {
        format!("^{NAME}/{NAME}$")
    }
}

/// A port, or a range of ports such as "8000-8080".
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct Ports(pub IntOrString);

impl JsonSchema for Ports {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true, "minimum": 1, "maximum": 65535, "maxLength": 11,
            "pattern": format!("^{PORT}(-{PORT})?$"),
        })
    }
}
