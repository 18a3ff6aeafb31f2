//! Generates the calls of `oh-protocol`.

use super::{
    fields::Member,
    schema::{Document, Place, Property, Shape},
    terms::{Call, Field, Kind, Module, Output},
    text::{MARK, docs, imported},
    types::{builder, debug, derive, of},
};
use crate::Result;

/// A call with its fields.
pub(super) struct Made {
    pub(super) call: &'static Call,
    pub(super) members: Vec<Member>,
    path: Vec<&'static str>,
    query: Vec<&'static str>,
    /// The field that is the whole body.
    whole: Option<&'static str>,
    /// The type of the result.
    output: String,
}

/// The field for a body that is a type of the plan.
const BODIES: &[(&str, Field)] = &[(
    "MetaProfile",
    Field {
        json: "profile",
        name: "profile",
        docs: "The meta-profile.",
        kind: Kind::Plain,
    },
)];

/// Returns the code of a module of `oh-protocol`.
pub(super) fn module(module: &'static Module, document: &Document) -> Result<String> {
    let mut code = String::new();
    for call in module.calls {
        code.push_str(&call_code(&Made::new(call, module, document)?, module));
    }
    for kind in module.types {
        code.push_str(&of(kind, module, document)?);
    }
    if code.contains("default = \"yes\"") {
        code.push_str(
            "/// Returns the value of a field that is true unless it is given.\n\
             fn yes() -> bool { true }\n",
        );
    }
    let head = docs("//!", module.docs);
    let code = imported(&code);
    let mark = format!(
        "{MARK}// `Debug` does not show parts that may contain secrets: URLs in full, free-form \
         values and unknown\n// fields.\n"
    );
    Ok(format!("{head}\n{mark}\n{code}"))
}

impl Made {
    pub(super) fn new(
        call: &'static Call,
        module: &'static Module,
        document: &Document,
    ) -> Result<Self> {
        let mut properties = Vec::new();
        let (mut path, mut query) = (Vec::new(), Vec::new());
        let name_of = |json: &str| {
            let mut fields = call.fields.iter();
            let found = fields.find(|field| field.json == json);
            found.map_or("", |field| field.name)
        };
        for (place, property) in document.parameters(call.operation)? {
            let list = if place == Place::Path {
                &mut path
            } else {
                &mut query
            };
            list.push(name_of(&property.name));
            properties.push(property);
        }
        let body = document.body(call.operation)?;
        let known = BODIES
            .iter()
            .find(|(name, _)| body.as_deref() == Some(name));
        let mut members;
        match (&body, known) {
            (Some(schema), Some((_, field))) => {
                members = Member::join(call.operation, properties, call.fields)?;
                members.push(Member {
                    field,
                    property: Property {
                        name: field.json.to_owned(),
                        shape: Shape::Named(schema.clone()),
                        required: true,
                        nullable: false,
                        default: serde_json::Value::Null,
                        not_empty: false,
                    },
                });
            }
            (Some(schema), None) => {
                properties.extend(document.properties(schema)?);
                members = Member::join(call.operation, properties, call.fields)?;
            }
            (None, _) => members = Member::join(call.operation, properties, call.fields)?,
        }
        let whole = known.map(|(_, field)| field.name);
        let output = output(call, module, document)?;
        Ok(Self {
            call,
            members,
            path,
            query,
            whole,
            output,
        })
    }

    /// Returns the type of the result.
    pub(super) fn output(&self) -> &str {
        &self.output
    }

    /// Returns what a call derives. A constructor without parameters has a default.
    fn derives(&self) -> &'static str {
        match self.members.iter().all(Member::is_optional) {
            true => "Clone, Default, PartialEq",
            false => "Clone, PartialEq",
        }
    }

    /// Returns whether the call has settings beyond its constructor.
    pub(super) fn has_setters(&self) -> bool {
        self.members.iter().any(Member::is_optional)
    }
}

/// Returns the type of a call's result.
fn output(call: &Call, module: &'static Module, document: &Document) -> Result<String> {
    let schema = document.response(call.operation)?;
    let schema = schema.ok_or_else(|| format!("{}: no response", call.operation))?;
    Ok(match call.output {
        Output::Done => "()".to_owned(),
        Output::Whole => {
            let mut types = module.types.iter();
            let found = types.find(|it| it.schema == schema);
            let found = found.ok_or_else(|| format!("the plan does not have the type {schema}"))?;
            found.name.to_owned()
        }
        Output::Part(part) => {
            let properties = document.properties(&schema)?;
            let mut properties = properties.into_iter();
            let property = properties.find(|it| it.name == part);
            let property = property.ok_or_else(|| format!("{schema} has no field {part}"))?;
            let field: &'static Field = &Field {
                json: "",
                name: "",
                docs: "",
                kind: Kind::Plain,
            };
            Member { field, property }.inner(module)
        }
    })
}

fn call_code(made: &Made, module: &Module) -> String {
    let call = made.call;
    let name = call.name;
    let mut code = docs("///", &format!("`{}`: {}", call.operation, call.docs));
    if made.members.is_empty() {
        code.push_str("#[derive(Debug, Clone, Copy, Default, PartialEq)]\n#[non_exhaustive]\n");
        code.push_str(&format!("pub struct {name};\n\n"));
    } else {
        code.push_str(&derive(&made.members, module, made.derives()));
        if made.has_setters() {
            code.push_str("#[must_use]\n");
        }
        code.push_str(&format!("pub struct {name} {{\n"));
        for member in &made.members {
            code.push_str(&format!(
                "{}: {},\n",
                member.name(),
                member.of(module, true)
            ));
        }
        code.push_str("}\n\n");
        if made.members.iter().any(|member| member.is_hidden(module)) {
            code.push_str(&debug(name, &made.members, module));
        }
        let text = |member: &Member| member.field.docs.to_owned();
        code.push_str(&builder(
            name,
            call.new,
            &made.members,
            module,
            true,
            "",
            text,
        ));
    }
    let (method, route) = call.operation.split_once(' ').unwrap_or_default();
    let request = request(made, method, route);
    // The request belongs to the constructor, if there is one.
    let asked = match code.strip_suffix("}\n\n") {
        Some(open) if !made.members.is_empty() => {
            code = format!(
                "{open}\nfn to_request(&self) -> crate::Result<crate::Request> \
                 {{ {request} }}\n}}\n\n"
            );
            "|this| this.to_request()".to_owned()
        }
        _ => format!("|_this| {request}"),
    };
    if let Some(why) = call.never {
        code.push_str(&docs("//", &format!("Not retried: {why}.")));
    }
    let repeat = match call.never {
        Some(_) => "Never",
        None => "Idempotent",
    };
    let (first, rest) = (
        format!("super::call!({name} => {},", made.output),
        format!("{method} {route:?}, {repeat};"),
    );
    // The formatter does not change the arguments of this macro.
    let between = match first.len() + rest.len() - "super::".len() < 100 {
        true => " ",
        false => "\n    ",
    };
    let decoded = response(made);
    let wrap = match decoded.len() < 80 {
        true => " ",
        false => "\n        ",
    };
    code.push_str(&format!(
        "{first}{between}{rest}\n    {asked};\n    |answer|{wrap}{decoded});\n\n"
    ));
    code
}

/// Returns the code that creates the request.
fn request(made: &Made, method: &str, route: &str) -> String {
    let mut code = String::new();
    let is_parameter = |name: &str| made.path.contains(&name) || made.query.contains(&name);
    for member in &made.members {
        let (name, json) = (member.name(), member.field.json);
        let checked = member.property.not_empty && member.property.required;
        if checked && !is_parameter(name) {
            code.push_str(&format!(
                "if self.{name}.is_empty() {{ return \
                 Err(crate::Error::invalid(\"`{json}` must not be empty\")); }}\n"
            ));
        }
    }
    let target = match (made.path.as_slice(), made.query.as_slice()) {
        ([], []) => format!("{route:?}"),
        ([name], []) => {
            let (before, rest) = route.split_once("/{").unwrap_or_default();
            let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
            let what = made.members.iter().find(|it| it.name() == *name);
            let what = what.map_or("", |it| it.field.docs);
            format!("super::named({before:?}, {what:?}, &self.{name}, {rest:?})?")
        }
        (_, names) => {
            code.push_str(&format!("let mut target = {route:?}.to_owned();\n"));
            for name in names {
                code.push_str(&format!(
                    "super::query(&mut target, {name:?}, &self.{name});\n"
                ));
            }
            "target".to_owned()
        }
    };
    let request = format!("crate::Request::new(http::Method::{method}, {target})");
    let fields = made.members.iter().filter(|it| !is_parameter(it.name()));
    let fields: Vec<_> = fields.collect();
    if fields.is_empty() {
        return format!("{code}Ok({request})");
    }
    code.push_str(&format!("let request = {request};\n"));
    if let Some(name) = made.whole {
        code.push_str(&format!("let body = serde_json::json!(self.{name});\n"));
    } else {
        code.push_str("let mut body = serde_json::Map::new();\n");
        for member in fields {
            let (name, json) = (member.name(), member.field.json);
            let insert = |value: &str| {
                format!("body.insert({json:?}.to_owned(), serde_json::json!({value}));")
            };
            let value = match member.field.kind {
                Kind::Seconds => "crate::time::whole_seconds(*value)",
                _ => "value",
            };
            code.push_str(&match (member.is_optional(), member.is_map()) {
                (_, true) => format!(
                    "if !self.{name}.is_empty() {{ {} }}\n",
                    insert(&format!("self.{name}"))
                ),
                (true, _) => format!(
                    "if let Some(value) = &self.{name} {{ {} }}\n",
                    insert(value)
                ),
                (false, _) => format!("{}\n", insert(&format!("self.{name}"))),
            });
            if let Kind::Is(_) = member.field.kind {
                code.push_str(&format!("self.{name}.check()?;\n"));
            }
        }
        code.push_str("let body = serde_json::Value::from(body);\n");
    }
    code.push_str("crate::config::check_unmasked(\"body\", &body)?;\nrequest.json(&body)");
    code
}

/// Returns the code that decodes the response.
fn response(made: &Made) -> String {
    match made.call.output {
        Output::Done => "answer.done(\"response\")".to_owned(),
        Output::Whole => format!("answer.json(\"response of `{}`\")", made.call.operation),
        Output::Part(part) => format!(
            "super::part(&answer, {part:?}, \"response of `{}`\")",
            made.call.operation
        ),
    }
}
