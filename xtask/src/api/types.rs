//! Generates the types in bodies.

use super::{
    fields::Member,
    schema::Document,
    terms::{Kind, Module, Type},
    text::docs,
};
use crate::Result;

/// The field for everything else, and its documentation.
const OTHER: &str = "/// Fields that this version does not support.\n\
                     #[serde(flatten)]\npub other: serde_json::Map<String, serde_json::Value>,\n";

/// Returns the code of a type in a body.
pub(super) fn of(kind: &Type, module: &Module, document: &Document) -> Result<String> {
    let members = Member::join(kind.schema, document.properties(kind.schema)?, kind.fields)?;
    let name = kind.name;
    let mut code = docs("///", kind.docs);
    code.push_str(
        "#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
",
    );
    code.push_str("#[non_exhaustive]\n");
    if kind.new.is_some() {
        code.push_str("#[must_use]\n");
    }
    code.push_str(&format!("pub struct {name} {{\n"));
    for member in &members {
        code.push_str(&docs("///", member.field.docs));
        code.push_str(&member.attributes());
        let of = member.of(module, false);
        code.push_str(&format!("pub {}: {of},\n", member.name()));
    }
    code.push_str(OTHER);
    code.push_str("}\n\n");
    code.push_str(&debug(name, &members, module));
    if let Some(new) = kind.new {
        let more = "other: serde_json::Map::new(),\n";
        let setters = |member: &Member| {
            let text = member.field.docs;
            let mut first = text.chars();
            let lower = first.next().map(|first| first.to_ascii_lowercase());
            format!("Sets {}{}", lower.unwrap_or_default(), first.as_str())
        };
        code.push_str(&builder(name, new, &members, module, false, more, setters));
    }
    Ok(code)
}

/// Returns the derives: `Debug` too, if everything may be shown.
pub(super) fn derive(members: &[Member], module: &Module, all: &str) -> String {
    match members.iter().any(|member| member.is_hidden(module)) {
        true => format!("#[derive({all})]\n"),
        false => format!("#[derive(Debug, {all})]\n"),
    }
}

/// Returns `Debug` by hand, without the parts that are not shown.
pub(super) fn debug(name: &str, members: &[Member], module: &Module) -> String {
    let mut code = format!(
        "impl std::fmt::Debug for {name} {{\n\
         fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n\
         f.debug_struct({name:?})\n"
    );
    for member in members {
        let field = member.name();
        let shown = match member.field.kind {
            Kind::Address if member.property.nullable => {
                format!("&self.{field}.as_deref().map(crate::redact::url)")
            }
            Kind::Address => format!("&crate::redact::url(&self.{field})"),
            _ if member.is_hidden(module) => continue,
            _ => format!("&self.{field}"),
        };
        code.push_str(&format!(".field({field:?}, {shown})\n"));
    }
    code.push_str(".finish_non_exhaustive()\n}\n}\n\n");
    code
}

/// Returns the constructor, which takes what is required, and the setters for the rest.
pub(super) fn builder(
    name: &str,
    new: &str,
    members: &[Member],
    module: &Module,
    request: bool,
    more: &str,
    docs_of: impl Fn(&Member) -> String,
) -> String {
    let mut code = format!("impl {name} {{\n{}", docs("///", new));
    let (mut parameters, mut values) = (Vec::new(), String::new());
    for member in members {
        let value = match member.is_optional() {
            true if member.is_option(request) && !member.is_map() => {
                format!("{}: None", member.name())
            }
            true if member.is_map() => {
                format!("{}: std::collections::BTreeMap::new()", member.name())
            }
            true => format!("{}: Vec::new()", member.name()),
            false => {
                let (parameter, value) = member.parameter(module);
                parameters.push(parameter);
                value
            }
        };
        values.push_str(&format!("{value},\n"));
    }
    let parameters = parameters.join(", ");
    code.push_str(&format!(
        "pub fn new({parameters}) -> Self {{\nSelf {{ {values}{more} }}\n}}\n\n"
    ));
    for member in members.iter().filter(|member| member.is_optional()) {
        code.push_str(&docs("///", &docs_of(member)));
        code.push_str(&member.setter(module, request));
    }
    code.push_str("}\n\n");
    code
}
